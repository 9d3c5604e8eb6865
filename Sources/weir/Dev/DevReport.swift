import Foundation

/// What `weir dev` has brought up, as `--json` prints it.
struct DevReport: Encodable, Sendable, Equatable {
    let publicURL: String
    let adminURL: String
    let customerKey: String
    let adminKey: String
    let tenantID: String
    let databaseURL: String
    /// `nil` where Weir runs without Redis; printed as `null`.
    let redisURL: String?
    let workerURL: String
    let dataFolder: String
    /// The environment with which another `weir serve` joins this installation.
    let serveEnvironment: [String: String]
    /// What the first prediction found; for the screen alone.
    let firstPrediction: String

    private enum CodingKeys: String, CodingKey {
        case publicURL = "public_url"
        case adminURL = "admin_url"
        case customerKey = "customer_key"
        case adminKey = "admin_key"
        case tenantID = "tenant_id"
        case databaseURL = "database_url"
        case redisURL = "redis_url"
        case workerURL = "worker_url"
        case dataFolder = "data_dir"
        case serveEnvironment = "serve_env"
    }

    /// Written by hand because a missing Redis is `null`, not absent.
    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(publicURL, forKey: .publicURL)
        try container.encode(adminURL, forKey: .adminURL)
        try container.encode(customerKey, forKey: .customerKey)
        try container.encode(adminKey, forKey: .adminKey)
        try container.encode(tenantID, forKey: .tenantID)
        try container.encode(databaseURL, forKey: .databaseURL)
        try container.encode(redisURL, forKey: .redisURL)
        try container.encode(workerURL, forKey: .workerURL)
        try container.encode(dataFolder, forKey: .dataFolder)
        try container.encode(serveEnvironment, forKey: .serveEnvironment)
    }

    /// One JSON object on one line.
    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }

    /// What a newcomer reads.
    var screen: String {
        """

        Weir is running.

          public        \(publicURL)
          admin         \(adminURL)
          customer key  \(customerKey)
          admin key     \(adminKey)
          data          \(dataFolder)
          Redis         \(redisURL == nil ? "none; routes come from PostgreSQL" : "running")

        A first prediction was made and settled: \(firstPrediction).

        Make another, see what it cost, and what is left:

          curl -s \(publicURL)/predict/ -H 'authorization: Bearer \(customerKey)' -H 'content-type: application/json' \
        -d '{"model":"iris","features":[6.3,3.3,6.0,2.5]}'

          curl -s '\(publicURL)/api/v1/usage?group_by=model' -H 'authorization: Bearer \(customerKey)'

          curl -s \(publicURL)/api/v1/quota -H 'authorization: Bearer \(customerKey)'

        Ctrl-C stops everything. The data stays in the folder, and `weir dev` on it goes on from there.
        """
    }
}
