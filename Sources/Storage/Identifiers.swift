internal import Domain
internal import PostgresDriver

extension Identifier {
    var postgres: PostgresUUID { PostgresUUID(high: high, low: low) }

    init(_ uuid: PostgresUUID) { self.init(high: uuid.high, low: uuid.low) }
}

extension Timestamp {
    var postgres: PostgresTimestamp { PostgresTimestamp(microsecondsSince1970: microsecondsSince1970) }

    init(_ timestamp: PostgresTimestamp) { self.init(microsecondsSince1970: timestamp.microsecondsSince1970) }
}

extension StoreUnavailable {
    /// The ports know one kind of failure: what was asked could not be done now. The driver's words hold no SQL and no data.
    init(_ error: PostgresError) { self.init(cause: error.description) }
}
