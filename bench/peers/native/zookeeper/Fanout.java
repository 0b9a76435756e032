import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooKeeper;

/** Watchers, each on a connection of its own, and one who writes again when all know of the last change. */
final class Fanout {
    private static final int WATCHERS = 1000;

    private final ZooKeeper writer;
    private final ZookeeperLoad.Shape shape;
    private final AtomicInteger missing = new AtomicInteger();
    private volatile Calls.Done everyone = code -> {};

    Fanout(ZooKeeper writer, ZookeeperLoad.Shape shape) {
        this.writer = writer;
        this.shape = shape;
    }

    String run() throws Exception {
        List<ZooKeeper> clients = new ArrayList<>();
        try {
            for (int number = 0; number < WATCHERS; number++) {
                ZooKeeper client = ZookeeperLoad.connect(shape);
                clients.add(client);
                client.addWatch(ZookeeperLoad.path(0), event -> {
                    if (event.getType() == EventType.NodeDataChanged) {
                        told(0);
                    }
                }, AddWatchMode.PERSISTENT);
            }
            List<Calls.Call> calls = List.of(this::change);
            if (shape.warmUp() > 0) {
                new Measurement(calls, 0, shape.warmUp()).run();
            }
            ZookeeperLoad.begun();
            return new Measurement(calls, 0, shape.seconds()).run().json(WATCHERS);
        } finally {
            for (ZooKeeper client : clients) {
                client.close();
            }
        }
    }

    /** Done when every watcher knows, and the writer has its answer. */
    private void change(Calls.Done done) {
        missing.set(WATCHERS + 1);
        everyone = done;
        writer.setData(
                ZookeeperLoad.path(0), shape.value(), -1, (code, path, context, stat) -> told(code), null);
    }

    private void told(int code) {
        if (missing.decrementAndGet() == 0) {
            everyone.done(code);
        }
    }
}
