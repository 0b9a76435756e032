import java.util.Arrays;
import java.util.List;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.zookeeper.KeeperException;

/** Callers who call for so long; what is under way at the end is waited for and counts. */
final class Measurement {
    private static final long GRACE_SECONDS = 60;

    private final List<Calls.Call> calls;
    private final double rate;
    private final Pace pace;
    private final double spentBefore = Figures.processorTime();
    private double spent;
    private double elapsed;
    private long[] latencies = new long[1 << 16];
    private int count;
    private int errors;
    private int lastError;

    Measurement(List<Calls.Call> calls, double rate, double seconds) {
        this.calls = calls;
        this.rate = rate;
        this.pace = new Pace(rate, seconds);
    }

    Measurement run() throws InterruptedException {
        Semaphore over = new Semaphore(0);
        if (rate > 0) {
            dispatch(over);
        } else {
            for (Calls.Call call : calls) {
                again(call, over);
            }
        }
        long left = TimeUnit.NANOSECONDS.toSeconds(pace.end - System.nanoTime()) + GRACE_SECONDS;
        if (!over.tryAcquire(calls.size(), left, TimeUnit.SECONDS)) {
            throw new IllegalStateException(
                    "calls were not answered within " + GRACE_SECONDS + " s after the measurement");
        }
        elapsed = (System.nanoTime() - pace.began) / 1e9;
        spent = Figures.processorTime() - spentBefore;
        if (count == 0) {
            throw new IllegalStateException(
                    "no call was answered; " + errors + " failed, the last with " + KeeperException.Code.get(lastError));
        }
        return this;
    }

    private void again(Calls.Call call, Semaphore over) {
        long due = pace.next(System.nanoTime());
        if (due == Pace.NONE) {
            over.release();
            return;
        }
        call.begin(code -> {
            add(System.nanoTime() - due, code);
            again(call, over);
        });
    }

    /** Begins calls when they are due, by whichever caller is idle. */
    private void dispatch(Semaphore over) throws InterruptedException {
        LinkedBlockingQueue<Calls.Call> idle = new LinkedBlockingQueue<>(calls);
        for (long at = pace.next(pace.began); at != Pace.NONE; at = pace.next(pace.began)) {
            long due = at;
            while (System.nanoTime() < due) {
                LockSupport.parkNanos(due - System.nanoTime());
            }
            Calls.Call call = idle.take();
            if (pace.givesUp(System.nanoTime())) {
                idle.add(call);
                continue;
            }
            call.begin(code -> {
                add(System.nanoTime() - due, code);
                idle.add(call);
            });
        }
        for (int caller = 0; caller < calls.size(); caller++) {
            if (idle.poll(GRACE_SECONDS, TimeUnit.SECONDS) != null) {
                over.release();
            }
        }
    }

    private synchronized void add(long latency, int code) {
        if (code != 0) {
            errors++;
            lastError = code;
            return;
        }
        if (count == latencies.length) {
            latencies = Arrays.copyOf(latencies, 2 * count);
        }
        latencies[count++] = latency;
    }

    /** As bench.runs.results.Load. */
    String json() {
        String extra = pace.givenUp.get() == 0 ? "" : "\"given_up_calls\": " + pace.givenUp.get();
        return new Figures(latencies, count).json(count, elapsed, errors, spent, extra);
    }
}
