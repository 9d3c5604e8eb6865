/// What one check of `weir doctor` found.
struct DoctorFinding: Encodable, Sendable, Equatable {
    enum Status: String, Encodable, Sendable {
        case fine = "ok"
        /// Weir runs, but not as one would wish.
        case warning
        case failed
        /// Nothing was there to check.
        case skipped
    }

    /// A short, stable name, as in `database.migrations`.
    let check: String
    let status: Status
    /// What was seen.
    let detail: String
    /// What to do about it.
    let remedy: String?

    static func fine(_ check: String, _ detail: String) -> DoctorFinding {
        DoctorFinding(check: check, status: .fine, detail: detail, remedy: nil)
    }

    static func failed(_ check: String, _ detail: String, _ remedy: String) -> DoctorFinding {
        DoctorFinding(check: check, status: .failed, detail: detail, remedy: remedy)
    }

    static func warning(_ check: String, _ detail: String, _ remedy: String) -> DoctorFinding {
        DoctorFinding(check: check, status: .warning, detail: detail, remedy: remedy)
    }

    static func skipped(_ check: String, _ detail: String) -> DoctorFinding {
        DoctorFinding(check: check, status: .skipped, detail: detail, remedy: nil)
    }
}

/// All findings, and what follows from them.
struct DoctorReport: Encodable, Sendable {
    let healthy: Bool
    let findings: [DoctorFinding]

    init(_ findings: [DoctorFinding]) {
        self.findings = findings
        healthy = !findings.contains { $0.status == .failed }
    }

    /// A line for each check, and below it what to do.
    var text: String {
        let width = findings.map(\.check.count).max() ?? 0
        return findings.map { finding in
            let mark =
                switch finding.status {
                case .fine: "ok     "
                case .warning: "warning"
                case .failed: "FAILED "
                case .skipped: "skipped"
                }
            let name = finding.check + String(repeating: " ", count: width - finding.check.count)
            let remedy = finding.remedy.map { "\n\(String(repeating: " ", count: 9))-> \(SafeText.line($0))" } ?? ""
            return "\(mark)  \(name)  \(SafeText.line(finding.detail))\(remedy)"
        }.joined(separator: "\n")
    }
}
