internal import Domain
internal import HTTPListener

extension CacheInstruction {
    /// - Throws: `bad_request`.
    init(_ fields: [CacheField]) throws(Refusal) {
        var (control, modes, ttl, labels): ([String], [String], [String], [String]) = ([], [], [], [])
        for field in fields {
            switch field {
            case .control(let text): control.append(text)
            case .use(let text): modes.append(text)
            case .ttl(let text): ttl.append(text)
            case .label(let text): labels.append(text)
            }
        }
        try self.init(control: control, use: modes, ttl: ttl, label: labels)
    }
}
