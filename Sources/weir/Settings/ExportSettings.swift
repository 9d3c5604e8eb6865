/// What is said of exports.
struct ExportSettings: Sendable {
    /// Streams that may run at once, of each listener.
    let streams: Int
    /// That one stream or part may take.
    let seconds: Int
    let partRows: Int
    let keepHours: Int
    let leaseSeconds: Int

    init(_ reader: SettingsReader) {
        streams = reader.number("WEIR_EXPORT_STREAMS")
        seconds = reader.number("WEIR_EXPORT_SECONDS")
        partRows = reader.number("WEIR_EXPORT_PART_ROWS")
        keepHours = reader.number("WEIR_EXPORT_KEEP_HOURS")
        leaseSeconds = reader.number("WEIR_EXPORT_LEASE_SECONDS")
    }
}
