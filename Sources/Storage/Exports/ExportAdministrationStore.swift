public import Domain
internal import PostgresDriver

extension AdministrationStore: ExportAdministration {
    /// Exports that may wait or run at once.
    static let openExportsLimit: Int64 = 100

    public func createExport(_ export: NewExport, by actor: AuditActor) async throws(AdministrationFailure)
        -> ExportRecord
    {
        try await change(actor) { change in try await change.createExport(export) }
    }

    public func exports(_ page: PageRequest<ExportID>) async throws(AdministrationFailure) -> Page<ExportRecord> {
        try await list(ListExports(page: page), page)
    }

    public func export(_ id: ExportID) async throws(AdministrationFailure) -> ExportRecord {
        guard let record = try await read(FindExport(id: id)).first else { throw .refused(.noSuchExport) }
        return record
    }

    public func cancelExport(_ id: ExportID, by actor: AuditActor) async throws(AdministrationFailure) -> ExportRecord {
        try await change(actor) { change in try await change.cancelExport(id) }
    }

    public func exportManifest(_ id: ExportID) async throws(AdministrationFailure) -> String {
        let record = try await export(id)
        guard let manifest = try await read(ReadExportManifest(id: id)).first.flatMap({ $0 }) else {
            throw .refused(.exportNotCompleted(record))
        }
        return manifest
    }

    public func exportPart(_ part: Int32, of id: ExportID) async throws(AdministrationFailure) -> ExportPart {
        let record = try await export(id)
        guard record.state == .completed else { throw .refused(.exportNotCompleted(record)) }
        guard let found = try await read(FindExportPart(id: id, part: part)).first else {
            throw .refused(Refusal(.notFound, "The export has no such part. Its manifest names those that there are."))
        }
        guard try await exportPiece(0, of: found, in: id) != nil else { throw .refused(.exportGone) }
        return found
    }

    public func exportPiece(
        _ position: Int32, of part: ExportPart, in id: ExportID
    ) async throws(AdministrationFailure) -> [UInt8]? {
        try await read(ReadExportPiece(id: id, part: part, position: position)).first
    }
}

extension AdministrationTransaction {
    func createExport(_ export: NewExport) async throws -> ExportRecord {
        let query: ExportQuery
        let isIncremental: Bool
        var position: UInt64?
        switch export.window {
        case .query(let asked): (query, isIncremental) = (asked, false)
        case .incremental(let tenantID, let format, let after):
            position = after
            // The transactions bound it; the window lets all through.
            query = ExportQuery(
                tenantID: tenantID, format: format, granularity: .entries, start: Timestamp(microsecondsSince1970: 0),
                end: Timestamp(microsecondsSince1970: 253_370_764_800_000_000))
            isIncremental = true
        }
        if let tenantID = query.tenantID { _ = try await tenant(tenantID) }
        let (open, hasSame) = try await connection.execute(CountOpenExports(query: query)).first ?? (0, false)
        guard open < AdministrationStore.openExportsLimit else {
            throw Refusal(
                .conflict, "\(open) exports wait or run, as many as may. Wait for some to end, or cancel some.")
        }
        guard !isIncremental || !hasSame else {
            throw Refusal(
                .conflict,
                "An incremental export of this tenant and format is under way, and the next begins where it ends. Wait for it."
            )
        }
        let id: ExportID = newID()
        let made = try await connection.execute(
            InsertExport(
                id: id, query: query, isIncremental: isIncremental, partRows: export.partRows, after: position,
                actor: actor))
        guard !made.isEmpty else {
            throw Refusal.invalid(
                "/after_position", "is ahead of everything that was written", fix: "Send the next of an export before.")
        }
        try await audit(
            "export.create", "export", id.publicText, tenantID: query.tenantID, before: nil,
            after: #"{"format": "\#(query.format.rawValue)", "incremental": \#(isIncremental)}"#)
        return try await self.export(id)
    }

    func cancelExport(_ id: ExportID) async throws -> ExportRecord {
        let before = try await export(id)
        guard try await !connection.execute(CancelExport(id: id)).isEmpty else {
            throw Refusal(.conflict, "The export has ended: it is \(before.state.rawValue).")
        }
        try await audit(
            "export.cancel", "export", id.publicText, tenantID: before.query.tenantID,
            before: #"{"state": "\#(before.state.rawValue)"}"#, after: #"{"state": "cancelled"}"#)
        return try await export(id)
    }

    private func export(_ id: ExportID) async throws -> ExportRecord {
        guard let record = try await connection.execute(FindExport(id: id)).first else { throw Refusal.noSuchExport }
        return record
    }
}

extension Refusal {
    static let noSuchExport = Refusal(.notFound, "There is no such export.")
    static let exportGone = Refusal(
        .resultGone, "The parts of this export are no longer kept. Ask for the export again.")

    static func exportNotCompleted(_ record: ExportRecord) -> Refusal {
        Refusal(
            .conflict,
            "The export is \(record.state.rawValue), and only a completed one has a manifest and parts. Ask GET /admin/v1/exports/\(record.id.publicText) how it is."
        )
    }
}
