import CoreMetrics
import Glibc
import Synchronization

/// One series: something that can be written down.
protocol PrometheusCell: AnyObject, Sendable {
    /// Appends the series' lines.
    /// - Parameter labels: rendered, without braces; empty for none.
    func render(name: String, labels: String, into text: inout String)
}

extension PrometheusCell {
    fileprivate func line(_ name: String, _ labels: String, _ value: String, into text: inout String) {
        text += labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
    }
}

/// A count of whole things. It wraps instead of trapping, after nine quintillion.
final class CounterCell: PrometheusCell, CounterHandler {
    private let value = Atomic<Int64>(0)

    func increment(by amount: Int64) {
        // A counter never falls: Prometheus would read a fall as a restart.
        if amount > 0 { value.wrappingAdd(amount, ordering: .relaxed) }
    }

    func reset() { value.store(0, ordering: .relaxed) }

    func render(name: String, labels: String, into text: inout String) {
        line(name, labels, String(max(0, value.load(ordering: .relaxed))), into: &text)
    }
}

/// A sum of fractions, as in seconds of work.
final class FloatingCounterCell: PrometheusCell, FloatingPointCounterHandler {
    private let value = Mutex(0.0)

    func increment(by amount: Double) {
        guard amount > 0, amount.isFinite else { return }
        value.withLock { $0 += amount }
    }

    func reset() { value.withLock { $0 = 0 } }

    func render(name: String, labels: String, into text: inout String) {
        line(name, labels, PrometheusNames.number(value.withLock { $0 }), into: &text)
    }
}

/// A value that goes up and down.
final class GaugeCell: PrometheusCell, RecorderHandler, MeterHandler {
    private let bits = Atomic<UInt64>(0)

    func record(_ value: Int64) { set(Double(value)) }
    func record(_ value: Double) { set(value) }
    func set(_ value: Int64) { set(Double(value)) }
    func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }
    func decrement(by amount: Double) { increment(by: -amount) }

    func increment(by amount: Double) {
        var current = bits.load(ordering: .relaxed)
        while true {
            let sum = (Double(bitPattern: current) + amount).bitPattern
            let (exchanged, original) = bits.weakCompareExchange(expected: current, desired: sum, ordering: .relaxed)
            if exchanged { return }
            current = original
        }
    }

    func render(name: String, labels: String, into text: inout String) {
        line(name, labels, PrometheusNames.number(Double(bitPattern: bits.load(ordering: .relaxed))), into: &text)
    }
}

/// Counts of observations by size. Threads write to different shards, so that event loops do not wait for each other.
final class HistogramCell: PrometheusCell, TimerHandler, RecorderHandler {
    /// Upper edges, ascending, and what they are called in `le`.
    struct Scale: Sendable {
        let edges: [Int64]
        let names: [String]
        let isTime: Bool

        /// Half a millisecond to a minute, in nanoseconds: finer below ten milliseconds, where a gateway's own time
        /// lies.
        static let seconds = Scale(
            edges: [
                500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000,
                500_000_000,
                1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000, 30_000_000_000, 60_000_000_000,
            ],
            names: [
                "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5",
                "5.0", "10.0", "30.0",
                "60.0",
            ],
            isTime: true)

        /// One to a million in steps of 1, 2, 5.
        static let sizes: Scale = {
            let edges: [Int64] = (0..<6).flatMap { exponent -> [Int64] in
                let power = (0..<exponent).reduce(Int64(1)) { product, _ in product * 10 }
                return [power, 2 * power, 5 * power]
            }
            return Scale(edges: edges + [1_000_000], names: (edges + [1_000_000]).map { "\($0).0" }, isTime: false)
        }()
    }

    private struct Counts {
        var buckets: [Int64]
        var sum: Int64 = 0
    }

    private final class Shard: Sendable {
        let counts: Mutex<Counts>
        init(bucketCount: Int) { counts = Mutex(Counts(buckets: Array(repeating: 0, count: bucketCount))) }
    }

    private static let shardCount = 4
    private let scale: Scale
    private let shards: [Shard]

    init(_ scale: Scale) {
        self.scale = scale
        shards = (0..<Self.shardCount).map { _ in Shard(bucketCount: scale.edges.count + 1) }
    }

    func recordNanoseconds(_ duration: Int64) { observe(duration) }
    func record(_ value: Int64) { observe(value) }

    func record(_ value: Double) {
        guard value.isFinite else { return }
        observe(Int64(exactly: value.rounded()) ?? (value < 0 ? .min : .max))
    }

    private func observe(_ value: Int64) {
        let bucket = scale.edges.firstIndex { value <= $0 } ?? scale.edges.count
        // Thread handles are addresses that differ above their low bits.
        let thread = UInt(pthread_self())
        shards[Int((thread >> 12 ^ thread >> 24) % UInt(Self.shardCount))].counts.withLock { counts in
            counts.buckets[bucket] += 1
            let (sum, overflow) = counts.sum.addingReportingOverflow(value)
            counts.sum = overflow ? (value < 0 ? .min : .max) : sum
        }
    }

    func render(name: String, labels: String, into text: inout String) {
        var totals = [Int64](repeating: 0, count: scale.edges.count + 1)
        var sum: Int64 = 0
        for shard in shards {
            shard.counts.withLock { counts in
                for index in totals.indices { totals[index] += counts.buckets[index] }
                sum = sum.addingReportingOverflow(counts.sum).partialValue
            }
        }
        let separator = labels.isEmpty ? "" : ","
        var cumulative: Int64 = 0
        for (index, total) in totals.enumerated() {
            cumulative += total
            let edge = index < scale.names.count ? scale.names[index] : "+Inf"
            line("\(name)_bucket", "\(labels)\(separator)le=\"\(edge)\"", String(cumulative), into: &text)
        }
        line("\(name)_sum", labels, scale.isTime ? PrometheusNames.seconds(nanoseconds: sum) : String(sum), into: &text)
        line("\(name)_count", labels, String(cumulative), into: &text)
    }
}
