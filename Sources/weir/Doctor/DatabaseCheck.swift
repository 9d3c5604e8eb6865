/// What `weir doctor` says about the database.
enum DatabaseCheck {
    static func run(url: String) async -> [DoctorFinding] {
        [.skipped("database", "this build cannot look into a database yet")]
    }
}
