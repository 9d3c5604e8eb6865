import Logging
import Storage

/// What `weir doctor` says about the database.
enum DatabaseCheck {
    static func run(url: String) async -> [DoctorFinding] {
        await DatabaseDiagnosis.run(url: url, logger: Logger(label: "weir.doctor")).map { finding in
            let check = "database.\(finding.check)"
            return switch finding.state {
            case .ok: .fine(check, finding.detail)
            case .warning: .warning(check, finding.detail, finding.remedy)
            case .failed: .failed(check, finding.detail, finding.remedy)
            }
        }
    }
}
