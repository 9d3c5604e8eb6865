internal import Domain
internal import HTTPListener
internal import Hummingbird

/// A report as it is answered: named columns, and rows of as many cells.
struct ReportTable: Sendable {
    let report: String
    let start: Timestamp
    let end: Timestamp
    let timeZone: String
    let columns: [String]
    var rows: [[ReportCell]]
    /// By how much a time can be told too high at most, in basis points; of reports with times alone.
    var errorBasisPoints: Int64?
}

/// Which part of a report is asked for, and in what form.
struct ReportPage: Sendable {
    private let offset: Int
    private let limit: Int
    private let format: ReportFormat
    private let subject: String

    /// A file of which no page is asked for has all rows: they are computed anew for each page, so that pages of a time that is not over may
    /// overlap, and a file that lacks its end looks whole.
    /// - Parameters:
    ///   - subject: the report and all that its rows follow from. A page of another subject is refused.
    ///   - maximumRows: of a whole file.
    /// - Throws: `validation_failed`.
    init(_ call: AdminCall, of subject: String, maximumRows: Int = 1_000_000) throws(Refusal) {
        self.subject = subject
        format = try ReportFormat(call.query, call.request)
        let isWhole = format == .csv && call.query.text("page") == nil
        limit = try call.query.integer("limit", in: 1...1_000, default: isWhole ? maximumRows : 100)
        offset =
            try call.query.value(
                "page", "the next_page of an answer to the same question",
                fix: "Take it from there, and leave everything else as it was."
            ) { PageToken.offset($0, of: subject) } ?? 0
    }

    /// The place behind the last row of the page.
    var end: Int { offset + limit }

    func shows(_ index: Int) -> Bool { (offset..<end).contains(index) }

    func answer(_ table: ReportTable) throws -> Response {
        let rows = table.rows.dropFirst(offset).prefix(limit)
        let nextPage = table.rows.count > offset + limit ? PageToken.text(offset + limit, of: subject) : nil
        if format == .csv {
            var document = CSVDocument(columns: table.columns)
            for row in rows { document.add(row) }
            return document.answer(name: table.report, nextPage: nextPage)
        }
        return try .json(
            ReportAnswer(
                report: table.report, start: table.start.description, end: table.end.description,
                timeZone: table.timeZone, errorBasisPoints: table.errorBasisPoints,
                data: rows.map { row in
                    Dictionary(zip(table.columns, row), uniquingKeysWith: { first, _ in first })
                },
                nextPage: nextPage, hasMore: nextPage != nil))
    }
}

private struct ReportAnswer: Encodable {
    let object = "list"
    let report: String
    let start: String
    let end: String
    let timeZone: String
    let errorBasisPoints: Int64?
    let data: [[String: ReportCell]]
    @Present var nextPage: String?
    let hasMore: Bool

    enum CodingKeys: String, CodingKey {
        case object, report, start, end, data
        case timeZone = "time_zone"
        case errorBasisPoints = "error_basis_points"
        case nextPage = "next_page"
        case hasMore = "has_more"
    }

    init(
        report: String, start: String, end: String, timeZone: String, errorBasisPoints: Int64?,
        data: [[String: ReportCell]], nextPage: String?, hasMore: Bool
    ) {
        self.report = report
        self.start = start
        self.end = end
        self.timeZone = timeZone
        self.errorBasisPoints = errorBasisPoints
        self.data = data
        self.nextPage = nextPage
        self.hasMore = hasMore
    }
}
