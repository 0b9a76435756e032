import java.util.concurrent.atomic.AtomicLong;

/** When calls are due, as bench.runs.recording.Pace says: at once in a closed loop, else at a rate. */
final class Pace {
    static final long NONE = Long.MIN_VALUE;
    private static final long OPERATIONS_MAX = 4_000_000;
    private static final long LATE_NS = 5_000_000_000L;

    final long began = System.nanoTime();
    final long end;
    final AtomicLong givenUp = new AtomicLong();
    private final double rate;
    private final AtomicLong numbers = new AtomicLong();

    Pace(double rate, double seconds) {
        this.rate = rate;
        this.end = began + (long) (seconds * 1e9);
    }

    /** When the next call is due, each asked for once; NONE if there is no further one. */
    long next(long now) {
        long number = numbers.getAndIncrement();
        if (number >= OPERATIONS_MAX) {
            return NONE;
        }
        long due = rate > 0 ? began + (long) (number / rate * 1e9) : now;
        return due < end ? due : NONE;
    }

    /** Whether it is too late to begin a call that was due, which is counted then. */
    boolean givesUp(long now) {
        if (now < end + LATE_NS) {
            return false;
        }
        givenUp.incrementAndGet();
        return true;
    }
}
