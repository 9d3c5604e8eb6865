extension ReferenceWorkerServer {
    /// How a worker runs. Checked when it starts.
    public struct Configuration: Sendable {
        /// The address to listen on.
        public var host: String
        /// The port to listen on; 0 takes any that is free.
        public var port: Int
        /// Threads that serve connections, at least 1.
        public var eventLoops: Int
        /// A file that gets one line of JSON per executed inference before its answer leaves; none where it is `nil`.
        public var journalPath: String?
        /// How much later than computed an inference is answered.
        public var delayMilliseconds: Int64
        /// A larger request body is refused with 413.
        public var maximumBodyBytes: Int
        /// Whether the models that misbehave on purpose (`fault-…`) are served.
        public var allowsFaults: Bool
        /// How long `fault-slow` takes.
        public var slowFaultMilliseconds: Int64
        /// Connections at a time. One beyond that is closed as it arrives.
        public var maximumConnections: Int
        /// A connection on which nothing moves for so long is closed, unless an answer is due on it.
        public var idleTimeoutMilliseconds: Int64
        /// How long `shutdown` waits for answers that are due.
        public var drainTimeoutMilliseconds: Int64

        public init(
            host: String = "127.0.0.1", port: Int = 0, eventLoops: Int = 1, journalPath: String? = nil,
            delayMilliseconds: Int64 = 0, maximumBodyBytes: Int = 1024 * 1024, allowsFaults: Bool = false,
            slowFaultMilliseconds: Int64 = 60_000, maximumConnections: Int = 4096,
            idleTimeoutMilliseconds: Int64 = 120_000, drainTimeoutMilliseconds: Int64 = 5_000
        ) {
            self.host = host
            self.port = port
            self.eventLoops = eventLoops
            self.journalPath = journalPath
            self.delayMilliseconds = delayMilliseconds
            self.maximumBodyBytes = maximumBodyBytes
            self.allowsFaults = allowsFaults
            self.slowFaultMilliseconds = slowFaultMilliseconds
            self.maximumConnections = maximumConnections
            self.idleTimeoutMilliseconds = idleTimeoutMilliseconds
            self.drainTimeoutMilliseconds = drainTimeoutMilliseconds
        }

        /// The largest delay that is taken for meant: a day.
        private static let maximumMilliseconds: Int64 = 86_400_000

        func check() throws(ReferenceWorkerError) {
            try check((0...65_535).contains(port), "port is not within 0 to 65535")
            try check((1...1024).contains(eventLoops), "eventLoops is not within 1 to 1024")
            try check(maximumBodyBytes > 0, "maximumBodyBytes is not positive")
            try check(maximumConnections > 0, "maximumConnections is not positive")
            for (name, value, least) in [
                ("delayMilliseconds", delayMilliseconds, 0), ("slowFaultMilliseconds", slowFaultMilliseconds, 0),
                ("idleTimeoutMilliseconds", idleTimeoutMilliseconds, 1),
                ("drainTimeoutMilliseconds", drainTimeoutMilliseconds, 0),
            ] as [(String, Int64, Int64)] {
                try check((least...Self.maximumMilliseconds).contains(value), "\(name) is not within \(least) to a day")
            }
        }

        private func check(_ isMet: Bool, _ complaint: String) throws(ReferenceWorkerError) {
            guard isMet else { throw .invalidConfiguration(complaint) }
        }
    }
}
