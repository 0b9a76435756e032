import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.Locale;

/** Latencies in nanoseconds, and the percentiles of them. */
final class Figures {
    private final long[] latencies;
    private final int count;

    Figures(long[] latencies, int count) {
        this.latencies = latencies;
        this.count = count;
        Arrays.sort(latencies, 0, count);
    }

    /** As bench.runs.results.Load, with percentiles alone. */
    String json(long operations, double seconds, int errors, double cpuSeconds, String extra) {
        return String.format(
                Locale.ROOT,
                "{\"operations\": %d, \"seconds\": %.6f, \"errors\": %d, \"p50_ms\": %.3f, \"p90_ms\": %.3f,"
                        + " \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"longest_ms\": %.3f, \"cpu_seconds\": %.3f,"
                        + " \"extra\": {%s}}",
                operations, seconds, errors, at(0.5), at(0.9), at(0.99), at(0.999), at(1), cpuSeconds, extra);
    }

    private double at(double share) {
        return latencies[Math.min((int) (share * count), count - 1)] / 1e6;
    }

    /** Of this process so far, in seconds. */
    static double processorTime() {
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        return system.getProcessCpuTime() / 1e9;
    }
}
