public import PostgresDriver

/// The statements of billing, so that a test can prepare each of them.
public enum BillingStatements {
    public static let all: [any PostgresStatement.Type] = [
        FindBillingAccount.self, FindCurrentVersion.self, ListInvoicedTenants.self, ListIssuedInvoices.self,
        ReadIssuedInvoice.self, ReadChargedUsage.self, ReadTenantStays.self, ReadVersionsOfTenant.self,
        ListBillingAccounts.self, ReadRatingParts.self, ReadTermsHeads.self,
        ReadTermsPrices.self, ReadTermsMultipliers.self,
        ListInvoices.self, FindInvoice.self, ReadInvoiceLines.self, ReadInvoiceCredits.self, DescribeInvoice.self,
        LockBillingAccount.self, ReadDatabaseTime.self, ReadLedgerSnapshot.self, ReadBilledPeriods.self,
        ReadBilledLines.self, ReadBilledUsage.self, ReadDraftsOfPeriod.self, ReadTakenPeriods.self, FindUnbilled.self,
        ReadHalfIssued.self, ReadCreditsOfInvoice.self, SumMoneyOfNotes.self, RemoveDraft.self, RemoveDraftLines.self,
        RemoveDraftUsage.self, RemoveDraftCredits.self, UpsertDraft.self, InsertInvoiceLine.self,
        InsertInvoiceUsage.self, InsertCreditApplication.self, FinaliseInvoice.self, PayInvoice.self, VoidInvoice.self,
        InsertCreditNote.self, ListIssuers.self, UpdateIssuer.self, DescribeIssuer.self, ReadCreditSources.self,
        ListCreditGrants.self, FindCreditGrant.self, InsertCreditGrant.self, RevokeCreditGrant.self,
        RevokeCreditsOfInvoice.self, DescribeCreditGrant.self, ReadBilledRequests.self,
        FindVersionToSubscribe.self, BeginTrial.self, EndSubscriptionAt.self, ReadStays.self, FindScheduledChange.self,
        HoldDueTenant.self, FindObstacle.self, DescribeFailedChange.self, InsertScheduledChange.self,
        EndScheduledChange.self, DescribeSubscription.self,
        SetPrepaid.self, FindPrepaidStanding.self, ListPrepaidTenants.self, NoteExhaustion.self, ReadRequestSum.self,
        FindCorrectionBounds.self, FindBalanceCurrency.self, ReadUnbilledStretches.self, ReadLateStretches.self,
        ReadPrepaidUse.self, NoteBalance.self, FindBalance.self, ClaimChange.self, NameChange.self,
        KeepChangeAnswer.self, FindChange.self,
        InsertCorrection.self, InsertAdjustment.self, DescribeAdjustment.self,
    ]
}
