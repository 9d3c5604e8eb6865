internal import PostgresDriver

/// The parts that comparisons share. All are constants of this file and its neighbours; values are parameters: the tenant or NULL, start, end,
/// and how many differences are named.
enum ComparisonText {
    static let ofTenant = "($1::uuid IS NULL OR tenant_id = $1)"
    private static let range =
        "entry_id >= uuid_lower_bound($2 - interval '1 hour') AND entry_id < uuid_lower_bound($3 + interval '1 hour')"
    private static let occurred = "occurred_at >= $2 AND occurred_at < $3"

    /// The ledger's entries of the window, as exports read them.
    static let entries = """
        SELECT * FROM ledger WHERE \(range) AND \(occurred) AND \(ofTenant)
        UNION ALL
        \(strays)
        """
    /// Those of them whose keys were made elsewhere.
    static let strays =
        "SELECT * FROM ledger WHERE \(ExportText.stray) AND NOT (\(range)) AND \(occurred) AND \(ofTenant)"
    /// Requests that were charged or failed; what came or was charged in the window is among them. A job that waited came when its key was made.
    static let settled = """
        SELECT * FROM settled_requests WHERE \(range) AND \(ofTenant)
        UNION ALL
        SELECT * FROM settled_requests WHERE is_billed AND \(ExportText.stray) AND NOT (\(range)) AND \(occurred) AND \(ofTenant)
        """
    /// From `differences`: kind, id, expected, found, and how many there are.
    static let parameters: [PostgresType] = [.uuid, .timestamptz, .timestamptz, .int8]
    static let answer = "SELECT kind, id, expected, found, count(*) OVER () FROM differences ORDER BY kind, id LIMIT $4"
}
