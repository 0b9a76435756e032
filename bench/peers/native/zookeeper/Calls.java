import java.util.Random;
import org.apache.zookeeper.ZooKeeper;

/** What callers repeat, by name. */
final class Calls {
    /** Reads to one write of the mix. */
    private static final int MIXED_READS = 9;

    /** Told of a result: 0, or ZooKeeper's code of what went wrong. */
    interface Done {
        void done(int code);
    }

    /** Begins one call; it is done on the client's thread. */
    interface Call {
        void begin(Done done);
    }

    private Calls() {}

    static Call of(ZooKeeper client, ZookeeperLoad.Shape shape, int caller) {
        Random draw = new Random(caller);
        byte[] value = shape.value();
        Call write = done -> client.setData(
                ZookeeperLoad.path(draw.nextInt(shape.keys())), value, -1, (code, path, context, stat) -> done.done(code),
                null);
        Call readSequential = done -> client.getData(
                ZookeeperLoad.path(draw.nextInt(shape.keys())), false,
                (code, path, context, data, stat) -> done.done(code), null);
        Call read = done -> syncAndGet(client, ZookeeperLoad.path(draw.nextInt(shape.keys())), done);
        return switch (shape.workload()) {
            case "write" -> write;
            case "read" -> read;
            case "read-sequential" -> readSequential;
            case "mixed" -> done -> (draw.nextInt(MIXED_READS + 1) == 0 ? write : read).begin(done);
            default -> throw new IllegalArgumentException(shape.workload());
        };
    }

    /** A linearizable read: a sync and a get are sent at once, and ZooKeeper keeps their order. */
    private static void syncAndGet(ZooKeeper client, String path, Done done) {
        int[] synced = new int[1];
        client.sync(path, (code, at, context) -> synced[0] = code, null);
        client.getData(
                path, false,
                (code, at, context, data, stat) -> done.done(synced[0] != 0 ? synced[0] : code), null);
    }
}
