internal import Domain
internal import PostgresDriver

/// The version in force.
struct FindSubscription: PostgresStatement {
    static let sql = "SELECT tier_version_id FROM subscriptions WHERE tenant_id = $1 AND ends_at IS NULL"
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.uuid]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> TierVersionID {
        TierVersionID(try row.uuid())
    }
}

/// Ends the subscription in force and tells when, so that the next one begins at that very instant.
struct EndSubscription: PostgresStatement {
    static let sql = """
        UPDATE subscriptions SET ends_at = greatest(clock_timestamp(), starts_at + interval '1 microsecond')
        WHERE tenant_id = $1 AND ends_at IS NULL
        RETURNING ends_at
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.timestamptz]

    let tenantID: TenantID

    func bind(to binds: inout PostgresBinds) { binds.append(tenantID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> Timestamp { Timestamp(try row.timestamp()) }
}

struct InsertSubscription: PostgresStatement {
    static let sql = """
        INSERT INTO subscriptions (subscription_id, tenant_id, tier_version_id, starts_at)
        VALUES ($1, $2, $3, coalesce($4, clock_timestamp()))
        """
    static let parameters: [PostgresType] = [.uuid, .uuid, .uuid, .timestamptz]

    let id: SubscriptionID
    let tenantID: TenantID
    let tierVersionID: TierVersionID
    /// `nil` means now, by the database's clock.
    let startsAt: Timestamp?

    func bind(to binds: inout PostgresBinds) {
        binds.append(id.postgres)
        binds.append(tenantID.postgres)
        binds.append(tierVersionID.postgres)
        binds.append(startsAt?.postgres)
    }
}

struct ReadTierQuotas: PostgresStatement {
    static let sql = """
        SELECT unit, frequency, amount, mode, alignment, thresholds_percent FROM tier_quotas WHERE tier_version_id = $1 ORDER BY unit, frequency
        """
    static let parameters: [PostgresType] = [.uuid]
    static let columns: [PostgresType] = [.text, .text, .int8, .text, .text, .int2Array]

    let tierVersionID: TierVersionID

    func bind(to binds: inout PostgresBinds) { binds.append(tierVersionID.postgres) }

    static func row(from row: inout PostgresRow) throws(PostgresError) -> QuotaRule {
        guard let unit = QuotaUnit(rawValue: try row.text()) else { throw row.failure(0, "is no unit of a quota") }
        guard let frequency = Frequency(rawValue: try row.text()) else { throw row.failure(1, "is no frequency") }
        let amount = try row.int64()
        guard let mode = QuotaMode(rawValue: try row.text()) else { throw row.failure(3, "is no mode of a quota") }
        guard let alignment = QuotaAlignment(rawValue: try row.text()) else {
            throw row.failure(4, "is no alignment of a quota")
        }
        guard let thresholds = QuotaThresholds(try row.array(of: Int16.self)) else {
            throw row.failure(5, "are no thresholds of a quota")
        }
        return QuotaRule(
            unit: unit, frequency: frequency, amount: amount, mode: mode, alignment: alignment, thresholds: thresholds)
    }
}

/// Gives a tenant these quotas. One that an administrator has set stays as it is. One that it has keeps its identity, and with it what was used in the running period; one that is aligned to
/// the subscription keeps its first one's start, so that going to and fro between tiers begins no new period.
struct ApplyQuotas: PostgresStatement {
    static let sql = """
        INSERT INTO quotas AS o (quota_id, tenant_id, unit, frequency, amount, mode, anchor, thresholds_percent)
        SELECT q.id, $1, q.unit, q.frequency, q.amount, q.mode,
            CASE q.alignment WHEN 'subscription' THEN s.starts_at END, string_to_array(q.thresholds, ',')::smallint[]
        FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[])
            AS q (id, unit, frequency, amount, mode, alignment, thresholds)
        JOIN subscriptions s ON s.tenant_id = $1 AND s.ends_at IS NULL
        ON CONFLICT (tenant_id, user_id, key_id, unit, frequency) DO UPDATE SET amount = EXCLUDED.amount, mode = EXCLUDED.mode,
            anchor = CASE WHEN EXCLUDED.anchor IS NOT NULL THEN coalesce(o.anchor, EXCLUDED.anchor) END, retired_at = NULL,
            thresholds_percent = EXCLUDED.thresholds_percent
            WHERE o.origin = 'tier'
        """
    static let parameters: [PostgresType] = [
        .uuid, .uuidArray, .textArray, .textArray, .int8Array, .textArray, .textArray, .textArray,
    ]

    let tenantID: TenantID
    let quotas: [(id: QuotaID, rule: QuotaRule)]

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(quotas.map(\.id.postgres))
        binds.append(quotas.map(\.rule.unit.rawValue))
        binds.append(quotas.map(\.rule.frequency.rawValue))
        binds.append(quotas.map(\.rule.amount))
        binds.append(quotas.map(\.rule.mode.rawValue))
        binds.append(quotas.map(\.rule.alignment.rawValue))
        binds.append(quotas.map(\.rule.thresholds.text))
    }
}

/// Takes the tenant's quotas away that a tier version does not have; those of its users and keys are none of the tier's.
struct RetireQuotas: PostgresStatement {
    static let sql = """
        UPDATE quotas q SET mode = 'soft', retired_at = clock_timestamp()
        WHERE q.tenant_id = $1 AND q.user_id IS NULL AND q.key_id IS NULL AND q.origin = 'tier' AND q.retired_at IS NULL
            AND NOT EXISTS (
            SELECT FROM tier_quotas r WHERE r.tier_version_id = $2 AND r.unit = q.unit AND r.frequency = q.frequency)
        """
    static let parameters: [PostgresType] = [.uuid, .uuid]

    let tenantID: TenantID
    let tierVersionID: TierVersionID

    func bind(to binds: inout PostgresBinds) {
        binds.append(tenantID.postgres)
        binds.append(tierVersionID.postgres)
    }
}
