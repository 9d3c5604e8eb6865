internal import Domain
internal import Foundation
internal import Hummingbird
internal import NIOCore

extension Response {
    /// A JSON answer with sorted keys and whole slashes, so that the same state gives the same bytes.
    static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) throws -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let body = ByteBuffer(bytes: try encoder.encode(value))
        return Response(status: status, headers: [.contentType: "application/json"], body: .init(byteBuffer: body))
    }
}

/// A page of a list.
struct ListAnswer<Element: Encodable>: Encodable {
    let object = "list"
    let data: [Element]
    @Present var firstID: String?
    @Present var lastID: String?
    let hasMore: Bool

    enum CodingKeys: String, CodingKey {
        case object, data
        case firstID = "first_id"
        case lastID = "last_id"
        case hasMore = "has_more"
    }

    /// - Parameter cursor: what an element is called in `after` and `before`.
    init<Row: Sendable>(_ page: Page<Row>, cursor: (Row) -> String, _ element: (Row) -> Element) {
        data = page.elements.map(element)
        firstID = page.elements.first.map(cursor)
        lastID = page.elements.last.map(cursor)
        hasMore = page.hasMore
    }
}

/// A field that is there and `null` where it has no value, so that a reader need not ask whether it is there.
@propertyWrapper
struct Present<Value: Encodable>: Encodable {
    var wrappedValue: Value?

    init(wrappedValue: Value?) { self.wrappedValue = wrappedValue }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let wrappedValue { try container.encode(wrappedValue) } else { try container.encodeNil() }
    }
}
