public import PostgresDriver

/// Every statement of the administration, so that a test can have the server prepare each on the migrated schema.
public enum AdministrationStatements {
    public static var all: [any PostgresStatement.Type] {
        [
            WriteAudit.self, ListAudit.self,
            ListTenants.self, FindTenant.self, LockTenant.self, DescribeTenant.self, InsertTenant.self,
            UpdateTenant.self,
            InsertUser.self,
            FindPublishedVersion.self, FindSubscription.self, EndSubscription.self, InsertSubscription.self,
            ReadTierQuotas.self,
            ApplyQuotas.self, RetireQuotas.self,
            ListQuotas.self, FindQuota.self, FindQuotaHolder.self, UpsertQuota.self, RestoreTierQuota.self,
            RetireQuota.self, FindQuotaTime.self, InsertQuotaRaise.self, DescribeQuota.self,
            ListKeys.self, FindKey.self, InsertKey.self, ReplaceKeyDigest.self, RevokeKey.self, DescribeKey.self,
            ListTiers.self, FindTier.self, InsertTier.self, InsertTierVersion.self, InsertTierPrices.self,
            InsertTierQuotas.self,
            PublishTierVersion.self, DescribeTierVersion.self,
            ListModels.self, InsertModel.self, LockModel.self, DescribeModel.self,
            ListRoutes.self, FindRoute.self, DeleteReplicas.self, InsertReplicas.self, DescribeRoute.self,
            InsertTierRateLimits.self, DeleteSubscriptionRateLimits.self, InsertSubscriptionRateLimits.self,
            DeleteKeyRateLimits.self, InsertKeyRateLimits.self, LockKey.self,
            ReadTotalUsage.self, ListTimeZones.self, ReadModelUsage.self, RebuildUsage.self,
        ]
    }
}
