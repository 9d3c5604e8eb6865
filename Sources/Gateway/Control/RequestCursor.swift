internal import Domain
internal import HTTPListener

extension QueryParameters {
    /// A cursor of the list of requests.
    func requestID(_ name: String) throws(Refusal) -> Domain.RequestID? {
        try value(name, "the id of a request", fix: "Take it from first_id or last_id of a page.") { text in
            Domain.RequestID(publicText: text)
        }
    }
}
