public import Domain

/// Asks a worker for a page.
public protocol ProbeBackend: Sendable {
    /// - Returns: the status, or `nil` where there was no answer in time.
    func probe(_ address: WorkerAddress, path: String, timeoutMilliseconds: Int64) async -> Int?
}

/// Asks every replica now and then whether it is there; once for the whole process.
public struct ReplicaProber: Sendable {
    private static let lookMilliseconds: UInt64 = 50

    private let deliveries: DeliveryDirectory
    private let backend: any ProbeBackend

    public init(deliveries: DeliveryDirectory, backend: any ProbeBackend) {
        self.deliveries = deliveries
        self.backend = backend
    }

    /// Runs until it is cancelled. A replica has at most one probe under way.
    public func run() async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                for probe in deliveries.dueProbes() { group.addTask { await ask(probe) } }
                try? await Task.sleep(nanoseconds: Self.lookMilliseconds * 1_000_000)
            }
        }
    }

    /// Sends the probes that are due and waits for their answers.
    func round() async {
        for probe in deliveries.dueProbes() { await ask(probe) }
    }

    private func ask(_ probe: DeliveryDirectory.DueProbe) async {
        let status = await backend.probe(
            probe.address, path: probe.path, timeoutMilliseconds: probe.timeoutMilliseconds)
        let isAlive = status.map { ProbeTally.isAlive(status: $0, isOwnPath: probe.isOwnPath) } ?? false
        deliveries.ended(probe, isAlive ? .passed : .failed)
    }
}
