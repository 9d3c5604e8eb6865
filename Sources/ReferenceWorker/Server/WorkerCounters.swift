import NIOCore
import Synchronization

/// What the worker has done since it started, for `GET /metrics`.
final class WorkerCounters: Sendable {
    private let inferences = Atomic<Int64>(0)
    private let inputTokens = Atomic<Int64>(0)
    private let outputTokens = Atomic<Int64>(0)
    private let refusals = Atomic<Int64>(0)

    func countInference(_ usage: TokenCount) {
        inferences.wrappingAdd(1, ordering: .relaxed)
        inputTokens.wrappingAdd(usage.input, ordering: .relaxed)
        outputTokens.wrappingAdd(usage.output, ordering: .relaxed)
    }

    func countRefusal() {
        refusals.wrappingAdd(1, ordering: .relaxed)
    }

    /// Prometheus text format, version 0.0.4.
    func exposition() -> ByteBuffer {
        var text = ByteBufferAllocator().buffer(capacity: 512)
        let rows: [(name: String, help: String, value: Int64)] = [
            ("weir_worker_inferences_total", "Inferences executed.", inferences.load(ordering: .relaxed)),
            (
                "weir_worker_input_tokens_total", "Input tokens of executed inferences.",
                inputTokens.load(ordering: .relaxed)
            ),
            (
                "weir_worker_output_tokens_total", "Output tokens of executed inferences.",
                outputTokens.load(ordering: .relaxed)
            ),
            ("weir_worker_refusals_total", "Requests answered with an error.", refusals.load(ordering: .relaxed)),
        ]
        for row in rows {
            text.writeString("# HELP \(row.name) \(row.help)\n# TYPE \(row.name) counter\n\(row.name) \(row.value)\n")
        }
        return text
    }
}
