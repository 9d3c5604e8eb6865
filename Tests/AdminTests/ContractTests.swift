import Domain
import Foundation
import Testing

@testable import Admin

@Suite("The written contract of the admin listener")
struct ContractTests {
    private struct Operation: Hashable {
        var id = ""
        var scope = ""
        var parameters: Set<String> = []
    }

    /// `METHOD path` and what the document says of it. Reads the one layout that the document has, two spaces a level.
    private func described() throws -> [String: Operation] {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../openapi/weir-admin.yaml")
        let names = [
            "Limit": "limit", "After": "after", "Before": "before", "UsageLimit": "limit", "Start": "start",
            "End": "end", "From": "from", "To": "to",
            "Groups": "group_by", "AllGroups": "group_by", "TenantFilter": "tenant_id", "EventTenant": "tenant",
            "ActionFilter": "action", "ModelFilter": "model", "ExportFormat": "format", "ExportStart": "start",
            "ExportEnd": "end", "ExportGranularity": "granularity", "ExportTenant": "tenant", "StripeAfter": "after",
            "StripeState": "state", "ReportZone": "time_zone", "ReportGroups": "group_by",
            "ReportLimit": "limit", "ReportPage": "page", "ReportFormat": "format", "ReportTenant": "tenant_id",
            "TopOrder": "order_by", "Periods": "periods", "OfTenant": "tenant", "StateFilter": "state",
            "LedgerTenant": "tenant", "LedgerAfter": "after", "LedgerLimit": "limit",
        ]
        var operations: [String: Operation] = [:]
        var path = ""
        var key = ""
        for line in try String(contentsOf: file, encoding: .utf8).split(
            separator: "\n", omittingEmptySubsequences: false)
        {
            if line.hasPrefix("components:") { break }
            if let match = line.wholeMatch(of: /\ \ (\/\S*):/) {
                path = String(match.1)
            } else if let match = line.wholeMatch(of: /\ \ \ \ (get|put|post|patch|delete):/) {
                key = "\(match.1.uppercased()) \(path)"
                operations[key] = Operation()
            } else if let match = line.wholeMatch(of: /\ {6}operationId: (\w+)/) {
                operations[key]?.id = String(match.1)
            } else if let match = line.firstMatch(of: /Needs the scope `(\w+)`/) {
                operations[key]?.scope = String(match.1)
            } else if let match = line.wholeMatch(of: /\ {8}- \{ \$ref: '#\/components\/parameters\/(\w+)' \}/),
                let name = names[String(match.1)]
            {
                operations[key]?.parameters.insert(name)
            }
        }
        return operations
    }

    @Test("holds the routes that there are, with their scopes and parameters, and no other")
    func routes() throws {
        var registered: [String: Operation] = [:]
        for entry in AdminRouteCatalog.routes {
            registered["\(entry.method) \(entry.path)"] = Operation(
                id: entry.operation.rawValue,
                scope: (entry.scopes.count == 1 ? entry.scopes : entry.scopes.subtracting([.admin])).first?.rawValue
                    ?? "",
                parameters: entry.parameters)
        }
        let described = try described()
        #expect(described.count == AdminRouteCatalog.routes.count)
        for (key, operation) in registered { #expect(described[key] == operation, "\(key)") }
        #expect(Set(described.keys) == Set(registered.keys))
    }

    @Test("every setting of delivery is described with its bounds, as an input and as an answer")
    func delivery() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../openapi/weir-admin.yaml")
        let text = try String(contentsOf: file, encoding: .utf8)
        for number in DeliverySettings.Number.allCases {
            for type in ["integer", "[integer, 'null']"] {
                let lines = [
                    "        \(number.rawValue):", "          type: \(type)", "          format: int64",
                    "          minimum: \(number.range.lowerBound)", "          maximum: \(number.range.upperBound)",
                    "",
                ]
                #expect(text.contains(lines.joined(separator: "\n")), "\(number.rawValue) as \(type)")
            }
        }
        for word in Balancing.allCases { #expect(text.contains(word.rawValue)) }
    }

    @Test("every operation is registered once")
    func once() {
        let operations = AdminRouteCatalog.routes.map(\.operation)
        #expect(Set(operations) == Set(AdminRouteCatalog.Operation.allCases))
        #expect(operations.count == AdminRouteCatalog.Operation.allCases.count)
    }
}
