/// The environment of children: ours, without what would lead them elsewhere.
enum DevEnvironment {
    /// A newcomer's shell may hold a DATABASE_URL or a PGHOST of another project; nothing of it may reach this
    /// installation.
    static func cleaned(_ environment: [String: String]) -> [String: String] {
        let decidedHere: Set<String> = [
            "WEIR_HOST", "WEIR_PORT", "WEIR_ADMIN_HOST", "WEIR_ADMIN_PORT", "WEIR_ROLES", "WEIR_CONFIG",
            "WEIR_ADMIN_URL",
        ]
        let secrets = SettingsCatalog.all.filter(\.isSecret).flatMap {
            [$0.name] + ($0.fileVariable.map { [$0] } ?? [])
        }
        let dropped = decidedHere.union(secrets)
        var kept = environment.filter { !$0.key.hasPrefix("PG") && !dropped.contains($0.key) }
        // The messages of createdb are compared with English ones.
        kept["LC_ALL"] = "C"
        return kept
    }
}
