import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/**
 * A load on ZooKeeper by its own client's asynchronous calls, as one process on a few connections.
 *
 * <p>The last line that it prints is a JSON object of the fields of bench.runs.results.Load.
 */
public final class ZookeeperLoad {
    static final String PREFIX = "/bench/entries";
    static final List<String> WORKLOADS = List.of("fanout", "mixed", "read", "read-sequential", "write");

    /** How many callers share a connection. */
    private static final int CALLERS_EACH = 64;

    private static final int CONNECT_SECONDS = 30;
    private static final int SESSION_MS = 30_000;

    /** Creations in a transaction. */
    private static final int BATCH = 100;

    /** ZooKeeper refuses a request of more than 1 MiB. */
    private static final int BATCH_BYTES_MAX = 500_000;

    /** What the command line asks for. */
    record Shape(
            String target, String workload, int callers, int valueBytes, int keys, double rate, double seconds,
            double warmUp) {

        static Shape parse(String[] arguments) {
            Map<String, String> given = new HashMap<>();
            if (arguments.length % 2 != 0) {
                throw new IllegalArgumentException("options come with their values: --target HOST:PORT ...");
            }
            for (int at = 0; at < arguments.length; at += 2) {
                given.put(arguments[at], arguments[at + 1]);
            }
            Shape shape = new Shape(
                    given.getOrDefault("--target", ""), given.getOrDefault("--workload", "write"),
                    Integer.parseInt(given.getOrDefault("--callers", "1")),
                    Integer.parseInt(given.getOrDefault("--value-bytes", "128")),
                    Integer.parseInt(given.getOrDefault("--keys", "1000")),
                    Double.parseDouble(given.getOrDefault("--rate", "0")),
                    Double.parseDouble(given.getOrDefault("--seconds", "4")),
                    Double.parseDouble(given.getOrDefault("--warm-up", "1")));
            if (!WORKLOADS.contains(shape.workload)) {
                throw new IllegalArgumentException(
                        "no workload \"" + shape.workload + "\": one of " + String.join(", ", WORKLOADS));
            }
            if (shape.target.isEmpty() || shape.callers < 1 || shape.keys < 1 || shape.seconds <= 0) {
                throw new IllegalArgumentException(
                        "--target is needed, and --callers, --keys and --seconds above 0");
            }
            return shape;
        }

        byte[] value() {
            byte[] value = new byte[valueBytes];
            Arrays.fill(value, (byte) 'x');
            return value;
        }
    }

    private ZookeeperLoad() {}

    /** Says that the measurement begins: what the servers spend counts from here on. */
    static void begun() {
        System.out.println("measuring");
    }

    static String path(int key) {
        return String.format("%s/key%06d", PREFIX, key);
    }

    /** A client of the first address: the leader, where the client in Python connects too. */
    static ZooKeeper connect(Shape shape) throws Exception {
        return connect(shape, 0);
    }

    /** A client of one of the addresses. */
    static ZooKeeper connect(Shape shape, int number) throws Exception {
        String[] addresses = shape.target.split(",");
        String address = addresses[number % addresses.length];
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper client = new ZooKeeper(address, SESSION_MS, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
        });
        if (!connected.await(CONNECT_SECONDS, TimeUnit.SECONDS)) {
            client.close();
            throw new IllegalStateException("cannot connect to " + address + " within " + CONNECT_SECONDS + " s");
        }
        return client;
    }

    /** Writes every key once. */
    private static void prepare(ZooKeeper client, Shape shape) throws Exception {
        for (String parent : List.of("/bench", PREFIX)) {
            try {
                client.create(parent, new byte[0], ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            } catch (KeeperException.NodeExistsException there) {
                continue; // An earlier load made it.
            }
        }
        byte[] value = shape.value();
        Set<String> known = new HashSet<>(client.getChildren(PREFIX, false));
        List<Op> batch = new ArrayList<>();
        int most = Math.max(1, Math.min(BATCH, BATCH_BYTES_MAX / (shape.valueBytes + 64)));
        for (int key = 0; key < shape.keys; key++) {
            String path = path(key);
            batch.add(known.contains(path.substring(PREFIX.length() + 1))
                    ? Op.setData(path, value, -1)
                    : Op.create(path, value, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            if (batch.size() == most || key == shape.keys - 1) {
                client.multi(batch);
                batch.clear();
            }
        }
    }

    private static String run(Shape shape) throws Exception {
        List<ZooKeeper> clients = new ArrayList<>();
        try {
            for (int number = 0; number * CALLERS_EACH < shape.callers; number++) {
                clients.add(connect(shape));
            }
            prepare(clients.get(0), shape);
            if (shape.workload.equals("fanout")) {
                return new Fanout(clients.get(0), shape).run();
            }
            List<Calls.Call> calls = new ArrayList<>();
            for (int caller = 0; caller < shape.callers; caller++) {
                calls.add(Calls.of(clients.get(caller % clients.size()), shape, caller));
            }
            if (shape.warmUp > 0) {
                new Measurement(calls, shape.rate, shape.warmUp).run();
            }
            begun();
            return new Measurement(calls, shape.rate, shape.seconds).run().json();
        } finally {
            for (ZooKeeper client : clients) {
                client.close();
            }
        }
    }

    public static void main(String[] arguments) {
        try {
            System.out.println(run(Shape.parse(arguments)));
        } catch (Exception error) {
            System.err.println(error.getMessage() != null ? error.getMessage() : error.toString());
            System.exit(1);
        }
        System.exit(0);
    }
}
