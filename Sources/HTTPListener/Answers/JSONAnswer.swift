internal import Foundation
public import Hummingbird
internal import NIOCore

extension Response {
    /// A JSON answer with sorted keys and whole slashes, so that the same state gives the same bytes.
    public static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) throws -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let body = ByteBuffer(bytes: try encoder.encode(value))
        return Response(status: status, headers: [.contentType: "application/json"], body: .init(byteBuffer: body))
    }
}

/// A page of a list.
public struct ListAnswer<Element: Encodable>: Encodable {
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

    /// - Parameters:
    ///   - firstID: what the first element is called as a cursor; `nil` for an empty page or a list without cursors. The same for `lastID`.
    ///   - hasMore: whether the list goes on behind the page.
    public init(data: [Element], firstID: String?, lastID: String?, hasMore: Bool) {
        self.data = data
        self.firstID = firstID
        self.lastID = lastID
        self.hasMore = hasMore
    }
}

/// A field that is there and `null` where it has no value, so that a reader need not ask whether it is there.
@propertyWrapper
public struct Present<Value: Encodable>: Encodable {
    public var wrappedValue: Value?

    public init(wrappedValue: Value?) { self.wrappedValue = wrappedValue }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let wrappedValue { try container.encode(wrappedValue) } else { try container.encodeNil() }
    }
}
