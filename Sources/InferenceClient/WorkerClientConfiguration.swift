internal import NIOCore

extension WorkerClient {
    /// Bounds of the client. Counts are for one replica on one event loop.
    public struct Configuration: Sendable {
        /// Open connections, those being opened included. At least 1.
        public var maximumConnectionsPerReplicaPerLoop = 256
        /// Connections that are kept while nobody uses them. As many as may be open: requests come in waves, as the commits
        /// that release them do, and whatever a wave cannot keep it opens anew. What is not used grows old and closes.
        public var maximumIdleConnections = 256
        /// Calls that wait while every connection is in use; the next one fails as ``WorkerFailure/overloaded``. A call
        /// waits at most its connect deadline.
        public var maximumWaitingRequests = 1024
        /// Shorter than a worker's own: who closes first should be the one who might send next.
        public var idleTimeoutMilliseconds: Int64 = 15_000
        /// After this a connection is closed when its answer is complete, so that load follows replicas that come and
        /// go behind one name. Up to a tenth less, by chance.
        public var maximumConnectionAgeMilliseconds: Int64 = 600_000
        /// The longest body of an answer.
        public var maximumResponseBytes = 16 * 1024 * 1024
        public var trust = WorkerTrust.system
        public var addressPolicy = WorkerAddressPolicy.standard
        var lookup = WorkerDirectory.systemLookup

        public init() {}

        var poolLimits: PoolState<WorkerConnection, Exchange>.Limits {
            .init(
                connections: max(1, maximumConnectionsPerReplicaPerLoop), idle: max(0, maximumIdleConnections),
                waiting: max(0, maximumWaitingRequests))
        }

        var responseLimits: ResponseParser.Limits { .init(bodyBytes: max(0, maximumResponseBytes)) }

        var idleTimeout: TimeAmount { WorkerDeadlines.amount(milliseconds: idleTimeoutMilliseconds) }

        var maximumConnectionAge: TimeAmount { WorkerDeadlines.amount(milliseconds: maximumConnectionAgeMilliseconds) }
    }

    /// Connections and calls over all loops and replicas, at some moment of the near past.
    public struct Statistics: Sendable, Hashable {
        /// Connections, those being opened included.
        public var openConnections = 0
        public var idleConnections = 0
        /// Calls that wait for a connection.
        public var waitingRequests = 0

        public var connectionsInUse: Int { openConnections - idleConnections }
    }
}
