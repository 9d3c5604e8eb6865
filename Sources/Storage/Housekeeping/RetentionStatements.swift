internal import PostgresDriver

struct RemoveExpiredResults: PostgresStatement {
    static let sql = "SELECT remove_expired_results($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}

struct EraseKept: PostgresStatement {
    static let sql = "SELECT erase_kept($1)"
    static let parameters: [PostgresType] = [.int4]
    static let columns: [PostgresType] = [.int4]

    let limit: Int32

    func bind(to binds: inout PostgresBinds) { binds.append(limit) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int32 { try row.int32() }
}
