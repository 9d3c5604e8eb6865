internal import Domain
internal import HTTPListener

extension QueryParameters {
    /// `limit`, `after` and `before` of a list.
    func page<Cursor>(_ cursor: (String) -> Cursor?) throws(Refusal) -> PageRequest<Cursor> {
        let limit = try integer("limit", in: 1...100, default: 20)
        let fix = "Take it from first_id or last_id of a page."
        let after = try value("after", "a cursor of this list", fix: fix, cursor)
        let before = try value("before", "a cursor of this list", fix: fix, cursor)
        guard after == nil || before == nil else {
            throw .invalid("before", "cannot be sent together with after", fix: "Send one of them.")
        }
        return PageRequest(limit: limit, after: after, before: before)
    }

    /// A cursor that is a name or a code. It need not exist any more: what comes behind it is still clear.
    static func nameCursor(_ text: String) -> String? {
        text.utf8.count <= 256 && !text.isEmpty && !InputRule<String>.hasControlCharacter(text) ? text : nil
    }
}

extension ListAnswer {
    /// - Parameter cursor: what an element is called in `after` and `before`.
    init<Row: Sendable>(_ page: Page<Row>, cursor: (Row) -> String, _ element: (Row) -> Element) {
        self.init(
            data: page.elements.map(element), firstID: page.elements.first.map(cursor),
            lastID: page.elements.last.map(cursor), hasMore: page.hasMore)
    }
}
