import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooKeeper;

/**
 * Watchers, each on a connection of its own to one of the servers, and one who writes again when it is answered: an
 * operation is an event that arrived, a latency that of a write until the last watcher has it.
 */
final class Fanout {
    private static final int WATCHERS = 1000;
    private static final long SETTLE_MS = 60_000;

    private final ZooKeeper writer;
    private final ZookeeperLoad.Shape shape;
    private final int[] had = new int[WATCHERS];

    /** How many watchers were told of each change, by its number from 0. */
    private final List<Integer> told = new ArrayList<>();

    /** When the last watcher was told, of each change that all know. */
    private final List<Long> arrived = new ArrayList<>();

    Fanout(ZooKeeper writer, ZookeeperLoad.Shape shape) {
        this.writer = writer;
        this.shape = shape;
    }

    String run() throws Exception {
        if (shape.callers() != 1) {
            throw new IllegalArgumentException(
                    "fanout is written by one caller here: only then is a change known by its number");
        }
        List<ZooKeeper> clients = new ArrayList<>();
        try {
            for (int number = 0; number < WATCHERS; number++) {
                int watcher = number;
                ZooKeeper client = ZookeeperLoad.connect(shape, number);
                clients.add(client);
                client.addWatch(ZookeeperLoad.path(0), event -> {
                    if (event.getType() == EventType.NodeDataChanged) {
                        told(watcher);
                    }
                }, AddWatchMode.PERSISTENT);
            }
            if (shape.warmUp() > 0) {
                measure(shape.warmUp());
            }
            ZookeeperLoad.begun();
            return measure(shape.seconds());
        } finally {
            // Each close waits for its answer; all at once they take as long as one.
            List<CompletableFuture<Void>> closing = new ArrayList<>();
            for (ZooKeeper client : clients) {
                closing.add(CompletableFuture.runAsync(() -> close(client)));
            }
            closing.forEach(CompletableFuture::join);
        }
    }

    private static void close(ZooKeeper client) {
        try {
            client.close();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized void told(int watcher) {
        int number = had[watcher]++;
        if (number == told.size()) {
            told.add(0);
        }
        told.set(number, told.get(number) + 1);
        if (told.get(number) == WATCHERS) {
            arrived.add(System.nanoTime());
            notifyAll();
        }
    }

    private synchronized int known() {
        return arrived.size();
    }

    private synchronized void until(int count) throws InterruptedException {
        long deadline = System.nanoTime() + SETTLE_MS * 1_000_000;
        while (arrived.size() < count) {
            long left = (deadline - System.nanoTime()) / 1_000_000;
            if (left <= 0) {
                throw new IllegalStateException("of " + count + " changes only " + arrived.size()
                        + " came to all watchers within " + SETTLE_MS / 1000 + " s");
            }
            wait(left);
        }
    }

    private String measure(double seconds) throws Exception {
        int first = known();
        List<Long> puts = new ArrayList<>();
        double spent = Figures.processorTime();
        Pace pace = new Pace(0, seconds);
        byte[] value = shape.value();
        for (long due = pace.next(System.nanoTime()); due != Pace.NONE; due = pace.next(System.nanoTime())) {
            writer.setData(ZookeeperLoad.path(0), value, -1);
            puts.add(due);
        }
        until(first + puts.size());
        double elapsed = (System.nanoTime() - pace.began) / 1e9;
        long[] latencies = new long[puts.size()];
        for (int number = 0; number < latencies.length; number++) {
            latencies[number] = arrived.get(first + number) - puts.get(number);
        }
        return new Figures(latencies, latencies.length)
                .json((long) WATCHERS * latencies.length, elapsed, 0, Figures.processorTime() - spent,
                        "\"writes\": " + latencies.length);
    }
}
