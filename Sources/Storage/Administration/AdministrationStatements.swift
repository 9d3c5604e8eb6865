public import PostgresDriver

/// Every statement of the administration, so that a test can have the server prepare each on the migrated schema.
public enum AdministrationStatements {
    public static var all: [any PostgresStatement.Type] {
        [
            WriteAudit.self, ListAudit.self,
            ListTenants.self, FindTenant.self, LockTenant.self, DescribeTenant.self, InsertTenant.self,
            UpdateTenant.self,
            InsertUser.self,
            FindSubscription.self, EndSubscription.self, InsertSubscription.self,
            ReadTierQuotas.self,
            ApplyQuotas.self, RetireQuotas.self,
            ListQuotas.self, FindQuota.self, FindQuotaHolder.self, UpsertQuota.self, RestoreTierQuota.self,
            RetireQuota.self, FindQuotaTime.self, InsertQuotaRaise.self, DescribeQuota.self, ListQuotaEvents.self,
            ListKeys.self, FindKey.self, InsertKey.self, ReplaceKeyDigest.self, RevokeKey.self, DescribeKey.self,
            ListTiers.self, FindTier.self, InsertTier.self, InsertTierVersion.self, InsertTierPrices.self,
            InsertTierQuotas.self,
            PublishTierVersion.self, DescribeTierVersion.self, FindTierVersion.self, ListTierVersions.self,
            ListTiersOfTenant.self, LockTier.self, RetireTierVersion.self, UpdateTierDraft.self,
            InsertTierPriceBands.self, InsertTierMultipliers.self, DeleteTierPrices.self, DeleteTierMultipliers.self,
            DeleteTierQuotas.self, DeleteTierRateLimits.self, DeleteTierVersion.self, FindTierReplay.self,
            InsertTierReplay.self, ListTierReplays.self,
            FindTierVersionOfTenant.self, ReadUsageQuarters.self, ReadUsageMinutes.self,
            ListModels.self, InsertModel.self, SetDelivery.self, LockModel.self, DescribeModel.self,
            ListRoutes.self, FindRoute.self, DeleteReplicas.self, InsertReplicas.self, DescribeRoute.self,
            InsertTierRateLimits.self, DeleteSubscriptionRateLimits.self, InsertSubscriptionRateLimits.self,
            LockModelNames.self, FindModelRouting.self, UpdateModelRouting.self, SetWeights.self,
            UpsertModelVersion.self, IsVersionInUse.self, DescribeModelRouting.self,
            ListAliases.self, FindAlias.self, FindModelName.self, UpsertAlias.self, DeleteAlias.self,
            DescribeAlias.self,
            ListWorkers.self, UpsertWorker.self, RenewWorker.self, DeleteWorker.self, RemoveExpiredWorkers.self,
            DescribeWorker.self,
            DeleteKeyRateLimits.self, InsertKeyRateLimits.self, LockKey.self,
            ReadTotalUsage.self, ListTimeZones.self,
            FindModel.self, SetCachePolicy.self, ClearPredictionCache.self, DescribeClearing.self,
            ReadCacheStatistics.self,
            ReadModelUsage.self, RebuildUsage.self,
        ]
    }
}
