// swift-format-ignore-file
// Written by scripts/embed-migrations from openapi/weir.yaml. Do not edit it: edit that, then run that.

/// The contract of the public listener, served at `/openapi.yaml`.
enum EmbeddedContract {
    static let yaml = #"""
openapi: 3.1.0
info:
  title: Weir
  version: 0.1.0
  summary: Metered inference for customers with an API key.
  description: |
    The public listener of Weir.

    **Keys.** Every route below `/predict`, `/status` and `/api` needs a key, as `Authorization: Bearer KEY` or in the
    header `x-api-key` or `api-key`. Two different credentials in one request are refused. A key looks like
    `weir_live_<12>_<38>`; a mistyped one is refused without any look-up.

    **Errors** are `application/problem+json` (RFC 9457) with a stable `code`. Nothing but `code` and the status is
    meant for programs.

    **Ids, time, money.** Ids sort by the time they were made. Times are RFC 3339 in UTC. Money is a whole number of
    millionths of the currency's unit (`…_micros`).

    **What is not yours does not exist.** The id of another tenant and an unknown id give the same 404.

    **Repeating a request.** With an `Idempotency-Key` a metered request can be sent again without being charged
    again: for 48 hours it gets the first one's answer. Without one, a request that is sent again is a new request,
    and is charged as one.
  license:
    name: Apache-2.0
    identifier: Apache-2.0
servers:
  - url: http://127.0.0.1:8080
    description: What `weir dev` starts.
security:
  - bearer: []
  - xApiKey: []
  - apiKey: []
tags:
  - name: predict
    description: Asking a model. Metered.
  - name: openai
    description: The OpenAI API, for the clients that speak it. Errors are that API's error objects.
  - name: jobs
    description: Asking now and fetching the answer later.
  - name: open-inference
    description: 'The Open Inference Protocol v2, for the clients that speak it. Errors are `{"error": "<text>"}`.'
  - name: account
    description: What was used, and what is left.
  - name: ledger
    description: What was charged, sealed and signed, to verify without us.
  - name: webhooks
    description: Being told of events.
  - name: service
    description: About the gateway itself. Open to everybody.

paths:
  /:
    get:
      operationId: getRoot
      tags: [service]
      summary: Name and version
      security: []
      responses:
        '200':
          description: The name and the version of this gateway.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Service' }
              example: { name: weir, version: 0.1.0 }
        '400': { $ref: '#/components/responses/BadRequest' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /health:
    get:
      operationId: getHealth
      tags: [service]
      summary: State of the models, Redis and PostgreSQL
      description: For people and simple monitors. Balancers ask `/readyz`.
      security: []
      responses:
        '200':
          description: >-
            `healthy`, or `degraded` when something is away without which requests are still served, or are refused
            for a while. The status is 200 in both cases.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Health' }
              examples:
                healthy:
                  value: { status: healthy, postgres: up, redis: up, models: { iris: ready } }
                degraded:
                  value: { status: degraded, postgres: up, redis: down, models: { iris: ready } }
        '400': { $ref: '#/components/responses/BadRequest' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /healthz:
    get:
      operationId: getLiveness
      tags: [service]
      summary: Whether the process is alive
      description: Asks nothing but the process itself. Restart the process when this does not answer.
      security: []
      responses:
        '200':
          description: Alive.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Liveness' }
              example: { alive: true }
        '400': { $ref: '#/components/responses/BadRequest' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /readyz:
    get:
      operationId: getReadiness
      tags: [service]
      summary: Whether this gateway should get requests
      description: >-
        Not ready means that metered requests would be refused: PostgreSQL is away, or settlements are not being
        written, or no route is known. Redis away does not make a gateway unready; it is named in `degraded`.
      security: []
      responses:
        '200':
          description: Ready, perhaps degraded.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Readiness' }
              example:
                ready: true
                degraded: [redis, rate_limits]
                checks: { postgres: ok, redis: unavailable, rate_limits: in_process, cache: in_process, settlement: ok, routes: ok }
        '400': { $ref: '#/components/responses/BadRequest' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503':
          description: Not ready; `checks` says why.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Retry-After: { $ref: '#/components/headers/RetryAfter' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Readiness' }
              example:
                ready: false
                degraded: [postgres, settlement]
                checks: { postgres: unavailable, redis: ok, rate_limits: ok, cache: ok, settlement: unavailable, routes: ok }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /openapi.yaml:
    get:
      operationId: getContract
      tags: [service]
      summary: This document
      security: []
      responses:
        '200':
          description: The document that describes the public listener.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/yaml:
              schema: { type: string }
        '400': { $ref: '#/components/responses/BadRequest' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /predict/:
    post:
      operationId: predict
      tags: [predict]
      summary: Ask a model
      description: |
        Needs the scope `predict`.

        The request is held against every quota of the tenant, the key and its user, sent to a worker, settled durably,
        and only then
        answered. An answer with status 200 therefore has exactly one entry in the ledger. A request that fails costs
        nothing.

        With an `Idempotency-Key`, sending the request again gets the answer of the one that was charged, for 48 hours.
      parameters:
        - { $ref: '#/components/parameters/Prefer' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/PredictRequest' }
            examples:
              one:
                summary: One flower
                value: { model: iris, features: [5.1, 3.5, 1.4, 0.2] }
              several:
                summary: Two flowers at once
                value: { model: iris, version: '1', inputs: [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]] }
      responses:
        '200':
          description: The prediction. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/PredictResponse' }
              example:
                request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
                model: iris
                version: '1'
                prediction: setosa
                probabilities: [0.981, 0.019, 0.0]
                cached: false
                usage: { input_tokens: 4, cached_input_tokens: 0, output_tokens: 1, source: fixed }
            image/*:
              schema: { type: string, format: binary, description: The worker's own answer. }
            audio/*:
              schema: { type: string, format: binary, description: The worker's own answer. }
            application/octet-stream:
              schema: { type: string, format: binary, description: The worker's own answer. }
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '402': { $ref: '#/components/responses/BalanceExhausted' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/KeyInProgress' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/PredictUnprocessable' }
        '429': { $ref: '#/components/responses/QuotaExceeded' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '502': { $ref: '#/components/responses/BadUpstream' }
        '503': { $ref: '#/components/responses/PredictUnavailable' }
        '504': { $ref: '#/components/responses/UpstreamTimeout' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /predict:
    post:
      operationId: predictWithoutSlash
      tags: [predict]
      summary: Ask a model (the same without the last slash)
      description: The same operation as `POST /predict/`. It is answered here, not redirected.
      parameters:
        - { $ref: '#/components/parameters/Prefer' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/PredictRequest' }
            examples:
              one:
                summary: One flower
                value: { model: iris, features: [5.1, 3.5, 1.4, 0.2] }
              several:
                summary: Two flowers at once
                value: { model: iris, version: '1', inputs: [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]] }
      responses:
        '200':
          description: The prediction. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/PredictResponse' }
              example:
                request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
                model: iris
                version: '1'
                prediction: setosa
                probabilities: [0.981, 0.019, 0.0]
                cached: false
                usage: { input_tokens: 4, cached_input_tokens: 0, output_tokens: 1, source: fixed }
            image/*:
              schema: { type: string, format: binary, description: The worker's own answer. }
            audio/*:
              schema: { type: string, format: binary, description: The worker's own answer. }
            application/octet-stream:
              schema: { type: string, format: binary, description: The worker's own answer. }
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '402': { $ref: '#/components/responses/BalanceExhausted' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/KeyInProgress' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/PredictUnprocessable' }
        '429': { $ref: '#/components/responses/QuotaExceeded' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '502': { $ref: '#/components/responses/BadUpstream' }
        '503': { $ref: '#/components/responses/PredictUnavailable' }
        '504': { $ref: '#/components/responses/UpstreamTimeout' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /.well-known/weir-keys:
    get:
      operationId: getSigningKeys
      tags: [ledger]
      summary: The public keys that heads and receipts are signed with
      description: >-
        All that ever signed, newest first. Nothing that a key of the state `compromised` has signed proves anything.
      security: []
      responses:
        '200':
          description: The keys.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/SigningKeyList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/ledger/head:
    get:
      operationId: getLedgerHead
      tags: [ledger]
      summary: The last signed head of your ledger
      description: >-
        Needs the scope `billing`. Keep it: an export that does not reach it is not whole.
      responses:
        '200':
          description: The head.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/SignedHead' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/ledger/entries:
    get:
      operationId: listLedgerEntries
      tags: [ledger]
      summary: Your ledger, entry by entry, sealed
      description: |
        Needs the scope `billing`. In the order of the chain; an entry is sealed within seconds after its request.

        With `format=jsonl`, or `Accept: application/x-ndjson`, all of it behind `after` as JSON Lines, heads among the
        entries, and at the end a line with the count and the last head, without which the export is cut off.
      parameters:
        - name: after
          in: query
          description: The sequence number behind which to begin.
          schema: { type: integer, minimum: 0, maximum: 9223372036854775807, default: 0 }
        - name: limit
          in: query
          description: The most entries of a page. Not for JSON Lines.
          schema: { type: integer, minimum: 1, maximum: 100, default: 20 }
        - name: format
          in: query
          schema: { type: string, enum: [json, jsonl] }
      responses:
        '200':
          description: A page, or the whole.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/LedgerEntryList' }
            application/x-ndjson:
              schema: { type: string }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/ledger/proofs/{request}:
    get:
      operationId: getLedgerProof
      tags: [ledger]
      summary: What proves the entry of one request
      description: >-
        Needs the scope `billing`. The entry, its place, and what leads from it to the next signed head.
      parameters:
        - { $ref: '#/components/parameters/LedgerRequest' }
      responses:
        '200':
          description: The proof.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/LedgerProof' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/audit:
    get:
      operationId: listOwnAudit
      tags: [ledger]
      summary: What was changed of your tenant, newest first
      description: >-
        Needs the scope `admin`. `before` and `after` are given as the texts that are hashed.
      parameters:
        - name: limit
          in: query
          schema: { type: integer, minimum: 1, maximum: 100, default: 20 }
        - name: after
          in: query
          description: The `last_id` of the page before. Not together with `before`.
          schema: { type: string, format: uuid }
        - name: before
          in: query
          description: The `first_id` of the page behind.
          schema: { type: string, format: uuid }
      responses:
        '200':
          description: A page.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/PlacedAuditList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/usage:
    get:
      operationId: getUsage
      tags: [account]
      summary: What was used, and what it cost
      description: |
        Needs the scope `billing`.

        Quantities and costs of completed requests in `start <= time < end`, in rows by what `group_by` names. Without
        `group_by` there is one row. Days and months are those of the tenant's time zone, hours those of UTC.

        The cost of a row is that of its usage alone, by the price of a unit. What a tier includes, its base fee, and what changes with
        the quantity of a whole period are in what the period costs, not in its parts.

        By `tag` only requests with tags are told (see `x-weir-tags`), once for each of their tags; there is no total then.
        The first hundred tags of a month (UTC) have rows of their own, and what comes after them is in the row `other`.

        With `format=csv` or `Accept: text/csv` the same rows are a file: a line of names, then a line for each row. Its columns are those
        of the groups that were asked for, of `hour`, `day`, `month`, `tag`, `tier`, `model`, `user_id` and `key_id` in this order, and
        then always `currency`, `requests`, `input_tokens`, `cached_input_tokens`, `output_tokens` and `cost_micros`. It has no line for
        the sum, and all rows are in it.
      parameters:
        - name: start
          in: query
          description: First instant, RFC 3339 with an offset, on a quarter of an hour. By default the start of the
            current month in the tenant's time zone.
          schema: { $ref: '#/components/schemas/Instant' }
          example: '2026-03-01T00:00:00Z'
        - name: end
          in: query
          description: First instant no longer counted, after `start`, on a quarter of an hour. By default the end of
            the current month in the tenant's time zone.
          schema: { $ref: '#/components/schemas/Instant' }
          example: '2026-04-01T00:00:00Z'
        - name: group_by
          in: query
          description: A list with commas of `model`, `key`, `user`, `tier` and `tag`, each at most once, and one of `hour`, `day` and
            `month`. `tag` cannot be together with `key` and `user`.
          style: form
          explode: false
          schema:
            type: array
            maxItems: 6
            uniqueItems: true
            items: { type: string, enum: [hour, day, month, model, key, user, tier, tag] }
          example: [day, model]
        - name: format
          in: query
          description: >-
            `csv` gives a file with a line of names, as `Accept: text/csv` does; a text that a spreadsheet would take for a formula has
            an apostrophe in front.
          schema: { type: string, enum: [json, csv], default: json }
      responses:
        '200':
          description: The rows, in the order of their groups, and their sum; or the rows as CSV.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
            Content-Disposition: { $ref: '#/components/headers/UsageFile' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/UsageReport' }
              example:
                object: list
                start: '2026-03-01T00:00:00Z'
                end: '2026-04-01T00:00:00Z'
                time_zone: UTC
                currency: USD
                data:
                  - day: '2026-03-14'
                    model: iris
                    requests: 150
                    input_tokens: 600
                    cached_input_tokens: 0
                    output_tokens: 150
                    cost_micros: 1650
                total:
                  requests: 150
                  input_tokens: 600
                  cached_input_tokens: 0
                  output_tokens: 150
                  cost_micros: 1650
                has_more: false
            text/csv:
              schema: { type: string }
              example: "day,model,currency,requests,input_tokens,cached_input_tokens,output_tokens,cost_micros\r\n2026-03-14,iris,USD,150,600,0,150,1650\r\n"
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/usage/summary:
    get:
      operationId: getUsageSummary
      tags: [account]
      summary: What the running month costs, and what it will come to
      description: |
        Needs the scope `billing`. The month is that of the tenant's time zone.

        `so_far` is rated as the bill will be: with the base fee, what the tier includes, and prices that change with the quantity of the
        month. `included` says what is left of what is included, in whole units as they are priced.

        `forecast` adds what was used in the same hours of the last four weeks, or the run rate where not one week is known. Its errors are what
        the same method would have been off in the last three closed months at the same point of the month: the weighted absolute
        percentage error in basis points, null where there is nothing to compare with.
      responses:
        '200':
          description: The month.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/UsageSummary' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /v1/organization/usage/completions:
    get:
      operationId: getOrganizationUsage
      tags: [openai]
      summary: Usage in buckets of hours or days
      description: >-
        Needs the scope `read`. All that was used is told here, of whatever surface, in whole hours and days of UTC. Buckets of a minute are refused: usage is kept by quarters of an hour.
      parameters:
        - name: start_time
          in: query
          required: true
          description: Unix seconds; the bucket that it falls in is the first.
          schema: { type: integer, minimum: 0 }
          example: 1772323200
        - name: end_time
          in: query
          description: Unix seconds, after `start_time`; by default now. The bucket that it falls in is the last.
          schema: { type: integer, minimum: 0 }
        - name: bucket_width
          in: query
          description: How long a bucket is.
          schema: { type: string, enum: [1h, 1d], default: 1d }
        - name: group_by
          in: query
          description: Any of `model`, `api_key_id` and `user_id`; repeated, or with commas.
          schema: { type: array, items: { type: string, enum: [model, api_key_id, user_id] } }
        - name: models
          in: query
          description: Only these models.
          schema: { type: array, items: { type: string } }
        - name: api_key_ids
          in: query
          description: Only these keys.
          schema: { type: array, items: { type: string } }
        - name: limit
          in: query
          description: The most buckets; 168 of hours, by default 24, or 31 of days, by default 7.
          schema: { type: integer, minimum: 1, maximum: 168 }
        - name: page
          in: query
          description: The `next_page` of an answer to the same question.
          schema: { type: string }
      responses:
        '200':
          description: One page of buckets, those without use too.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OrganizationUsagePage' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/organization/costs:
    get:
      operationId: getOrganizationCosts
      tags: [openai]
      summary: Costs in buckets of days
      description: >-
        Needs the scope `read`. Each result is rated alone, by the price of a unit; the summary of the period tells what it costs. Costs in
        different currencies are results of their own.
      parameters:
        - name: start_time
          in: query
          required: true
          description: Unix seconds; the bucket that it falls in is the first.
          schema: { type: integer, minimum: 0 }
          example: 1772323200
        - name: end_time
          in: query
          description: Unix seconds, after `start_time`; by default now. The bucket that it falls in is the last.
          schema: { type: integer, minimum: 0 }
        - name: bucket_width
          in: query
          description: Always a day.
          schema: { type: string, enum: [1d], default: 1d }
        - name: group_by
          in: query
          description: 'With `line_item` each model is told.'
          schema: { type: array, items: { type: string, enum: [line_item] } }
        - name: models
          in: query
          description: Only these models.
          schema: { type: array, items: { type: string } }
        - name: api_key_ids
          in: query
          description: Only these keys.
          schema: { type: array, items: { type: string } }
        - name: limit
          in: query
          description: The most buckets.
          schema: { type: integer, minimum: 1, maximum: 180, default: 7 }
        - name: page
          in: query
          description: The `next_page` of an answer to the same question.
          schema: { type: string }
      responses:
        '200':
          description: One page of buckets, those without use too.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OrganizationCostsPage' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /api/v1/usage/export:
    get:
      operationId: exportOwnUsage
      tags: [account]
      summary: Usage as a file
      description: |
        Needs the scope `billing`.

        Streams the tenant's usage at the pace of whoever reads it, entry by entry or summed; see docs/api/exports.md for the formats and for how a
        reader knows that nothing is missing. One runs at a time for a tenant, and only so many in all: beyond it the answer is 503 `overloaded`.
      parameters:
        - { $ref: '#/components/parameters/ExportFormat' }
        - { $ref: '#/components/parameters/ExportStart' }
        - { $ref: '#/components/parameters/ExportEnd' }
        - { $ref: '#/components/parameters/ExportGranularity' }
      responses:
        '200':
          description: The file. Behind its last byte the trailer field `x-weir-rows` says how many rows it has.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            text/csv:
              schema: { type: string }
            application/jsonl:
              schema: { type: string }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/tiers:
    get:
      operationId: listTiers
      tags: [account]
      summary: The tiers that the tenant may take
      description: >-
        Needs the scope `billing`. Those that everybody may take and those that were made for the tenant, by code, each with the
        version that a subscription would get now. At most 1,000.
      responses:
        '200':
          description: The tiers.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OfferedTierList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/tiers/analysis:
    get:
      operationId: analyseTiers
      tags: [account]
      summary: What tiers would have cost
      description: >-
        Needs the scope `billing`. The real usage of the last months that are over, rated with each tier that the tenant may
        take; the cheapest of those whose hard quotas would have let it through is recommended.
      parameters:
        - name: periods
          in: query
          description: How many months.
          schema: { type: integer, minimum: 1, maximum: 24, default: 3 }
          example: 3
      responses:
        '200':
          description: The analysis.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/TierAnalysis' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/quota:
    get:
      operationId: getQuota
      tags: [account]
      summary: The numbers that decide about the next request
      description: >-
        Any key. One row for each quota that a request of this key has to pass, those of the tenant, of the key's user and
        of the key, in its current period. `settled` is what finished requests used,
        `held` is what gateways hold for requests in flight and in their leases, `available` is the rest. A refusal with
        429 shows the same numbers. `rate_limits` has one row for each rate limit of the tenant and of this key, with the
        numbers that the headers of a prediction show.
      responses:
        '200':
          description: The quotas and rate limits of this key.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/QuotaReport' }
              example:
                object: list
                data:
                  - policy: tokens-month
                    level: tenant
                    unit: tokens
                    frequency: month
                    alignment: calendar
                    mode: hard
                    limit: 1000000
                    settled: 589767
                    held: 1000
                    available: 409233
                    period_id: 2026-03@Europe/Berlin
                    period_start: '2026-02-28T23:00:00Z'
                    period_end: '2026-03-31T22:00:00Z'
                    time_zone: Europe/Berlin
                    thresholds:
                      - { percent: 50, crossed_at: '2026-03-14T09:26:53.589Z' }
                      - { percent: 80 }
                      - { percent: 100 }
                rate_limits:
                  - policy: rpm
                    scope: tenant
                    unit: requests
                    limit: 600
                    burst: 100
                    window_seconds: 60
                    remaining: 87
                    reset_seconds: 2
                    mode: exact
                  - { policy: key-concurrency, scope: key, unit: concurrency, limit: 8, remaining: 7, mode: exact }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/quote:
    post:
      operationId: quote
      tags: [account]
      summary: The dry run of a prediction
      description: >-
        Any key. Takes the body of a prediction, checks it as a prediction is checked, and says what it could cost at
        most and whether the quotas have room. Calls no worker, holds nothing and charges nothing.
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/PredictRequest' }
            example: { model: iris, features: [5.1, 3.5, 1.4, 0.2] }
      responses:
        '200':
          description: The quote.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Quote' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/webhooks:
    get:
      operationId: listWebhooks
      tags: [webhooks]
      summary: The tenant's webhooks, oldest first
      description: >-
        Needs the scope `webhooks`, as all of these routes do. There are at most as many as one page holds.
      responses:
        '200':
          description: All webhooks.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/WebhookList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }
    post:
      operationId: addWebhook
      tags: [webhooks]
      summary: Be told of events at an address
      description: >-
        The address is looked up and must be on the public internet; it is looked up and checked again at each attempt.
        The answer has the secret with which messages are signed, this once.
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/NewWebhook' }
            example: { url: 'https://example.com/weir', events: [quota.threshold] }
      responses:
        '201':
          description: The webhook, with its secret.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
            Location:
              description: The webhook.
              schema: { type: string, format: uri-reference }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/WebhookWithSecret' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ForbiddenTarget' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/webhooks/{id}:
    get:
      operationId: getWebhook
      tags: [webhooks]
      summary: One webhook
      description: >-
        Needs the scope `webhooks`.
      parameters:
        - { $ref: '#/components/parameters/WebhookIdInPath' }
      responses:
        '200':
          description: The webhook.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Webhook' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }
    delete:
      operationId: removeWebhook
      tags: [webhooks]
      summary: Be told no more
      description: >-
        Removes the webhook with its deliveries. One that is being sent at this moment may still arrive.
      parameters:
        - { $ref: '#/components/parameters/WebhookIdInPath' }
      responses:
        '204':
          description: It is removed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/webhooks/{id}/deliveries:
    get:
      operationId: listWebhookDeliveries
      tags: [webhooks]
      summary: What was sent, and what waits, newest first
      description: >-
        Finished deliveries are kept for some days.
      parameters:
        - { $ref: '#/components/parameters/WebhookIdInPath' }
        - { $ref: '#/components/parameters/Limit' }
        - { $ref: '#/components/parameters/After' }
        - name: state
          in: query
          description: Only deliveries in this state.
          schema: { $ref: '#/components/schemas/WebhookDeliveryState' }
      responses:
        '200':
          description: One page of deliveries.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/WebhookDeliveryList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/webhooks/{id}/rotate:
    post:
      operationId: rotateWebhookSecret
      tags: [webhooks]
      summary: A new secret
      description: >-
        The secret before it signs as well until the grace is over; messages then have two signatures. A second rotation
        within the grace ends the one before.
      parameters:
        - { $ref: '#/components/parameters/WebhookIdInPath' }
      requestBody:
        required: false
        content:
          application/json:
            schema: { $ref: '#/components/schemas/WebhookRotation' }
            example: { grace_seconds: 3600 }
      responses:
        '200':
          description: The webhook, with its new secret.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/WebhookWithSecret' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/webhooks/{id}/enable:
    post:
      operationId: enableWebhook
      tags: [webhooks]
      summary: Let a disabled webhook be sent to again
      description: >-
        What was given up meanwhile is not sent by itself; each delivery can be asked for anew.
      parameters:
        - { $ref: '#/components/parameters/WebhookIdInPath' }
      responses:
        '200':
          description: The webhook.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Webhook' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/webhooks/deliveries/{id}/retry:
    post:
      operationId: retryWebhookDelivery
      tags: [webhooks]
      summary: Send a delivery again
      description: >-
        At once, under the same event id, with a whole schedule of attempts. Also one that was delivered.
      parameters:
        - { $ref: '#/components/parameters/WebhookDeliveryIdInPath' }
      responses:
        '202':
          description: It is due.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/WebhookDelivery' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/requests:
    get:
      operationId: listRequests
      tags: [account]
      summary: The tenant's requests, newest first
      description: >-
        Needs the scope `read`. Filters that are given together have all to hold. A page reads a bounded number of requests: where what is
        looked for is rare it can hold fewer than `limit`, or none, with `has_more` true; `next_cursor` goes on.
      parameters:
        - { $ref: '#/components/parameters/Limit' }
        - { $ref: '#/components/parameters/After' }
        - { $ref: '#/components/parameters/Before' }
        - name: starting_after
          in: query
          description: Another name of `after`.
          schema: { type: string, minLength: 1, maxLength: 256 }
        - name: ending_before
          in: query
          description: Another name of `before`.
          schema: { type: string, minLength: 1, maxLength: 256 }
        - name: start
          in: query
          description: Only requests that came at or after this instant.
          schema: { $ref: '#/components/schemas/Instant' }
        - name: end
          in: query
          description: Only requests that came before this instant.
          schema: { $ref: '#/components/schemas/Instant' }
        - name: status
          in: query
          description: Only requests in this state.
          schema: { $ref: '#/components/schemas/RequestStatus' }
        - name: model
          in: query
          description: Only requests to this model.
          schema: { $ref: '#/components/schemas/ModelName' }
        - name: version
          in: query
          description: Only requests that this version answered.
          schema: { type: string, minLength: 1, maxLength: 128 }
        - name: error_code
          in: query
          description: Only requests that failed with this code.
          schema: { type: string, pattern: '^[a-z_]{1,64}$' }
        - name: key_id
          in: query
          description: Only requests of this key.
          schema: { $ref: '#/components/schemas/KeyId' }
        - name: user_id
          in: query
          description: Only requests of this user.
          schema: { type: string, format: uuid }
        - name: operation
          in: query
          description: Only requests for this kind of work, as `predict` or `chat.completions`.
          schema: { type: string, pattern: '^[a-z.]{1,64}$' }
        - name: cached
          in: query
          description: Only requests that were answered from the cache, or only others.
          schema: { type: boolean }
      responses:
        '200':
          description: One page of requests.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/RequestList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/requests/{id}:
    get:
      operationId: getRequest
      tags: [account]
      summary: One request
      description: Needs the scope `read`. Reading a request is not metered.
      parameters:
        - { $ref: '#/components/parameters/RequestIdInPath' }
      responses:
        '200':
          description: The request.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/RequestDetail' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/requests/{id}/result:
    get:
      operationId: getRequestResult
      tags: [account]
      summary: What a request was answered with
      description: >-
        Needs the scope `read`. The kept result as it is, with its own content type; whole, or one range of bytes. It is always sent as an
        attachment, never to be shown in place. There is one where the tenant's retention keeps results, until its time is over.
      parameters:
        - { $ref: '#/components/parameters/RequestIdInPath' }
        - name: Range
          in: header
          description: One range, as `bytes=0-1023`. Several, or another unit, get the whole.
          schema: { type: string, maxLength: 256 }
        - name: If-Range
          in: header
          description: The `ETag` for which the range is meant; another one gets the whole.
          schema: { type: string, maxLength: 256 }
        - name: If-None-Match
          in: header
          description: The `ETag` that the caller has.
          schema: { type: string, maxLength: 256 }
      responses:
        '200':
          description: All of the result.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            ETag: { $ref: '#/components/headers/ResultTag' }
            Accept-Ranges: { $ref: '#/components/headers/AcceptRanges' }
            Content-Disposition: { $ref: '#/components/headers/Attachment' }
          content:
            application/json: { schema: {} }
            application/octet-stream: { schema: { type: string, format: binary } }
            image/*: { schema: { type: string, format: binary } }
            audio/*: { schema: { type: string, format: binary } }
        '206':
          description: The range.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            ETag: { $ref: '#/components/headers/ResultTag' }
            Accept-Ranges: { $ref: '#/components/headers/AcceptRanges' }
            Content-Disposition: { $ref: '#/components/headers/Attachment' }
            Content-Range:
              description: Which bytes, of how many.
              required: true
              schema: { type: string, examples: [bytes 0-1023/4096] }
          content:
            application/json: { schema: {} }
            application/octet-stream: { schema: { type: string, format: binary } }
            image/*: { schema: { type: string, format: binary } }
            audio/*: { schema: { type: string, format: binary } }
        '304':
          description: The caller has it.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            ETag: { $ref: '#/components/headers/ResultTag' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '410': { $ref: '#/components/responses/ResultGone' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '416': { $ref: '#/components/responses/RangeNotSatisfiable' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/requests/{id}/explain:
    get:
      operationId: explainRequest
      tags: [account]
      summary: Why a request was admitted or blocked, and how its charge comes about
      description: >-
        Needs the scope `read`. Names the quotas that admitted the request, what was held for it, and every line of its
        charge with quantity, unit price and exact amount; the sum is rounded once. For a request that was refused with 429,
        on whichever gateway, it names the numbers that decided, from about a second after it.
      parameters:
        - { $ref: '#/components/parameters/RequestIdInPath' }
      responses:
        '200':
          description: The explanation.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/RequestExplanation' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /v1/chat/completions:
    post:
      operationId: createChatCompletion
      tags: [openai]
      summary: Answer a conversation
      description: |
        Needs the scope `predict`. The body goes to the worker as it stands, fields that Weir does not know included; Weir
        reads the model, the bounds of the answer and whether it is a stream. Without `max_tokens` the worker is told the
        model's own bound: never more is made than was held against the quota.
      parameters:
        - { $ref: '#/components/parameters/Prefer' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/ChatCompletionRequest' }
            example: { model: assistant, messages: [{ role: user, content: Hello }], max_tokens: 32 }
      responses:
        '200':
          description: The worker's answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/ChatCompletion' }
              example: { id: chatcmpl-1, object: chat.completion, created: 1762000000, model: assistant, choices: [{ index: 0, message: { role: assistant, content: Hi! }, finish_reason: stop }], usage: { prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 } }
            text/event-stream:
              schema:
                type: string
                description: 'Events `data: {…}`, the last of them `data: [DONE]`.'
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenAIConflict' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '415': { $ref: '#/components/responses/OpenAIUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenAIMismatch' }
        '429': { $ref: '#/components/responses/OpenAITooManyRequests' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '502': { $ref: '#/components/responses/OpenAIBadUpstream' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '504': { $ref: '#/components/responses/OpenAIUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/completions:
    post:
      operationId: createCompletion
      tags: [openai]
      summary: Go on with a text
      description: |
        Needs the scope `predict`. The body goes to the worker as it stands, fields that Weir does not know included; Weir
        reads the model, the bounds of the answer and whether it is a stream. Without `max_tokens` the worker is told the
        model's own bound: never more is made than was held against the quota.
      parameters:
        - { $ref: '#/components/parameters/Prefer' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/CompletionRequest' }
            example: { model: assistant, prompt: Once upon a time, max_tokens: 32 }
      responses:
        '200':
          description: The worker's answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Completion' }
              example: { id: cmpl-1, object: text_completion, created: 1762000000, model: assistant, choices: [{ index: 0, text: ' there was', finish_reason: length }], usage: { prompt_tokens: 4, completion_tokens: 32, total_tokens: 36 } }
            text/event-stream:
              schema:
                type: string
                description: 'Events `data: {…}`, the last of them `data: [DONE]`.'
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenAIConflict' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '415': { $ref: '#/components/responses/OpenAIUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenAIMismatch' }
        '429': { $ref: '#/components/responses/OpenAITooManyRequests' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '502': { $ref: '#/components/responses/OpenAIBadUpstream' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '504': { $ref: '#/components/responses/OpenAIUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/embeddings:
    post:
      operationId: createEmbedding
      tags: [openai]
      summary: Turn texts into vectors
      description: |
        Needs the scope `predict`. Answers of a model that has a cache are kept.
      parameters:
        - { $ref: '#/components/parameters/Prefer' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/EmbeddingRequest' }
            example: { model: embedder, input: [Hello, World] }
      responses:
        '200':
          description: The worker's answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/EmbeddingList' }
              example: { object: list, model: embedder, data: [{ object: embedding, index: 0, embedding: [0.1, 0.2] }], usage: { prompt_tokens: 2, total_tokens: 2 } }
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenAIConflict' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '415': { $ref: '#/components/responses/OpenAIUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenAIMismatch' }
        '429': { $ref: '#/components/responses/OpenAITooManyRequests' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '502': { $ref: '#/components/responses/OpenAIBadUpstream' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '504': { $ref: '#/components/responses/OpenAIUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/files:
    post:
      operationId: uploadFile
      tags: [openai]
      summary: Upload a file of requests
      description: >-
        Needs the scope `predict`. The file is taken in piece by piece. `purpose` is `batch`.
      requestBody:
        required: true
        content:
          multipart/form-data:
            schema:
              type: object
              required: [purpose, file]
              properties:
                purpose: { type: string, enum: [batch] }
                file: { type: string, contentMediaType: application/jsonl }
      responses:
        '200':
          description: The file.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIFile' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenAIConflict' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '415': { $ref: '#/components/responses/OpenAIUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }
    get:
      operationId: listFiles
      tags: [openai]
      summary: Files, newest first
      description: >-
        Needs the scope `read`. Uploaded ones and the outputs of batches.
      parameters:
        - { $ref: '#/components/parameters/After' }
        - name: limit
          in: query
          description: The most items in the answer; a page has at most a thousand.
          schema: { type: integer, minimum: 1, maximum: 10000, default: 100 }
        - name: purpose
          in: query
          description: Only files of this purpose.
          schema: { type: string }
        - name: order
          in: query
          schema: { type: string, enum: [desc] }
      responses:
        '200':
          description: One page of files.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIFileList' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/files/{id}:
    get:
      operationId: getFile
      tags: [openai]
      summary: One file
      description: >-
        Needs the scope `read`. Without its content.
      parameters:
        - { $ref: '#/components/parameters/FileIdInPath' }
      responses:
        '200':
          description: The file.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIFile' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }
    delete:
      operationId: deleteFile
      tags: [openai]
      summary: Delete a file
      description: >-
        Needs the scope `predict`. Not while a batch that has not ended reads it.
      parameters:
        - { $ref: '#/components/parameters/FileIdInPath' }
      responses:
        '200':
          description: It is deleted.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIFileDeletion' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenAIConflict' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/files/{id}/content:
    get:
      operationId: getFileContent
      tags: [openai]
      summary: The content of a file
      description: >-
        Needs the scope `read`. As it was uploaded, or as the batch wrote it: JSON Lines.
      parameters:
        - { $ref: '#/components/parameters/FileIdInPath' }
      responses:
        '200':
          description: The bytes.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/octet-stream:
              schema: { type: string, contentMediaType: application/octet-stream }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/batches:
    post:
      operationId: createBatch
      tags: [openai]
      summary: Run the lines of a file as jobs
      description: >-
        Needs the scope `predict`. Each line is one request, charged as a request; lines that fail are not charged. The input is checked first; a batch
        whose input is wrong has the status `failed`, and `errors` by line.
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/NewOpenAIBatch' }
      responses:
        '200':
          description: The batch.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIBatch' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenAIConflict' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '415': { $ref: '#/components/responses/OpenAIUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }
    get:
      operationId: listBatches
      tags: [openai]
      summary: Batches, newest first
      description: >-
        Needs the scope `read`. The tenant's, whichever key made them.
      parameters:
        - { $ref: '#/components/parameters/After' }
        - { $ref: '#/components/parameters/Limit' }
      responses:
        '200':
          description: One page of batches.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIBatchList' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/batches/{id}:
    get:
      operationId: getBatch
      tags: [openai]
      summary: One batch, and how far it is
      description: >-
        Needs the scope `read`. `request_counts` grows while it runs. The files are there when it has ended.
      parameters:
        - { $ref: '#/components/parameters/BatchIdInPath' }
      responses:
        '200':
          description: The batch.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIBatch' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/batches/{id}/cancel:
    post:
      operationId: cancelBatch
      tags: [openai]
      summary: Cancel a batch
      description: >-
        Needs the scope `predict`. What was done stays, in the output; the rest is in the error file. A batch that has ended is 409.
      parameters:
        - { $ref: '#/components/parameters/BatchIdInPath' }
      responses:
        '200':
          description: The batch.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIBatch' }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenAIConflict' }
        '413': { $ref: '#/components/responses/OpenAIContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '417': { $ref: '#/components/responses/OpenAIExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/models:
    get:
      operationId: listModels
      tags: [openai]
      summary: The models that this key may call
      description: Aliases are models here. Takes any customer key.
      responses:
        '200':
          description: All of them, by name.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIModelList' }
              example: { object: list, data: [{ id: iris, object: model, created: 0, owned_by: weir }] }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /v1/models/{id}:
    get:
      operationId: getModel
      tags: [openai]
      summary: One of them
      description: A model that is not there and one that this key may not call are answered in the same words.
      parameters:
        - name: id
          in: path
          required: true
          schema: { type: string }
      responses:
        '200':
          description: The model.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenAIModel' }
              example: { id: iris, object: model, created: 0, owned_by: weir }
        '400': { $ref: '#/components/responses/OpenAIBadRequest' }
        '401': { $ref: '#/components/responses/OpenAIUnauthorized' }
        '403': { $ref: '#/components/responses/OpenAIForbidden' }
        '404': { $ref: '#/components/responses/OpenAINotFound' }
        '408': { $ref: '#/components/responses/OpenAIRequestTimeout' }
        '414': { $ref: '#/components/responses/OpenAIURITooLong' }
        '431': { $ref: '#/components/responses/OpenAIHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenAIInternalError' }
        '503': { $ref: '#/components/responses/OpenAIUnavailable' }
        '505': { $ref: '#/components/responses/OpenAIHTTPVersionNotSupported' }

  /predict/async:
    post:
      operationId: predictAsync
      tags: [jobs]
      summary: Ask a model, and fetch the answer later
      description: |
        Needs the scope `predict`. The body is that of `POST /predict/`, and so is what can be refused at once. The answer
        says where the result will be. Any other metered route does the same with `Prefer: respond-async`.
        See [async.md](../docs/api/async.md).
      parameters:
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/PredictRequest' }
            example: { model: iris, features: [5.1, 3.5, 1.4, 0.2] }
      responses:
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '402': { $ref: '#/components/responses/BalanceExhausted' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/KeyInProgress' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/PredictUnprocessable' }
        '429': { $ref: '#/components/responses/QuotaExceeded' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/PredictUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /predict/async/:
    post:
      operationId: predictAsyncWithSlash
      tags: [jobs]
      summary: The same with a last slash
      description: |
        The same operation as `POST /predict/async`.
      parameters:
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/PredictRequest' }
            example: { model: iris, features: [5.1, 3.5, 1.4, 0.2] }
      responses:
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '402': { $ref: '#/components/responses/BalanceExhausted' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/KeyInProgress' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/PredictUnprocessable' }
        '429': { $ref: '#/components/responses/QuotaExceeded' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/PredictUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /generate:
    post:
      operationId: generate
      tags: [jobs]
      summary: Have a text made, and fetch it later
      description: |
        Needs the scope `predict`. The body is that of `POST /v1/completions` (with `prompt`), `POST /v1/chat/completions`
        (with `messages`), `POST /v1/embeddings` (with `input`) or `POST /predict/`; the result is that surface's. A body with two of
        `prompt`, `messages` and `input` is refused. Fields that Weir does not know go to the worker where that surface lets them,
        and are refused with the body of `POST /predict/`. Nothing can be streamed.
      parameters:
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
        - { $ref: '#/components/parameters/JobPriority' }
        - { $ref: '#/components/parameters/JobRunAt' }
      requestBody:
        required: true
        content:
          application/json:
            schema: 
              oneOf:
                - { $ref: '#/components/schemas/CompletionRequest' }
                - { $ref: '#/components/schemas/ChatCompletionRequest' }
                - { $ref: '#/components/schemas/EmbeddingRequest' }
                - { $ref: '#/components/schemas/PredictRequest' }
            example: { model: words, prompt: 'Once upon a time', max_tokens: 20 }
      responses:
        '202': { $ref: '#/components/responses/JobQueued' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '402': { $ref: '#/components/responses/BalanceExhausted' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/KeyInProgress' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '415': { $ref: '#/components/responses/UnsupportedMediaType' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/PredictUnprocessable' }
        '429': { $ref: '#/components/responses/QuotaExceeded' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/PredictUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/jobs/{id}:
    get:
      operationId: getJob
      tags: [jobs]
      summary: What has become of a job
      description: >-
        Needs the scope `read`. With `wait` the answer comes when the job has ended, or when the time is over.
      parameters:
        - { $ref: '#/components/parameters/RequestIdInPath' }
        - { $ref: '#/components/parameters/JobWait' }
      responses:
        '200':
          description: The job.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Job' }
              example:
                object: job
                id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
                request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
                status: processing
                model: iris
                operation: predict
                priority: 5
                attempts: 1
                created_at: '2026-03-14T09:26:53.589793Z'
                run_at: '2026-03-14T09:26:53.590000Z'
                started_at: '2026-03-14T09:26:53.600000Z'
                completed_at: null
                expires_at: null
                batch_id: null
                custom_id: null
                result: null
                error: null
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '410': { $ref: '#/components/responses/Gone' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }
    delete:
      operationId: cancelJob
      tags: [jobs]
      summary: Cancel a job
      description: >-
        Needs the scope `predict`. A queued job does not run, and what a running one comes to is discarded; neither is charged. Cancelling again is no
        error. Of a job that failed because its attempts were used up the body is erased, so that nobody can give it further ones.
      parameters:
        - { $ref: '#/components/parameters/RequestIdInPath' }
      responses:
        '200':
          description: The job as it is now.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Job' }
              example:
                object: job
                id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
                request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
                status: processing
                model: iris
                operation: predict
                priority: 5
                attempts: 1
                created_at: '2026-03-14T09:26:53.589793Z'
                run_at: '2026-03-14T09:26:53.590000Z'
                started_at: '2026-03-14T09:26:53.600000Z'
                completed_at: null
                expires_at: null
                batch_id: null
                custom_id: null
                result: null
                error: null
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '410': { $ref: '#/components/responses/Gone' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/jobs/{id}/result:
    get:
      operationId: getJobResult
      tags: [jobs]
      summary: The result of a job
      description: >-
        Needs the scope `read`. The very body with which a synchronous request would have been answered; 409 where there is none.
      parameters:
        - { $ref: '#/components/parameters/RequestIdInPath' }
      responses:
        '200':
          description: The result.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { type: object }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '409': { $ref: '#/components/responses/Conflict' }
        '410': { $ref: '#/components/responses/Gone' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /v2:
    get:
      operationId: getServerMetadata
      tags: [open-inference]
      summary: Name, version and extensions of the server
      description: The extensions are those of the Open Inference Protocol v2 that are served.
      security: []
      responses:
        '200':
          description: The server.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceServer' }
              example: { name: weir, version: 0.1.0, extensions: [binary_tensor_data, generate, statistics] }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/health/live:
    get:
      operationId: getServerLive
      tags: [open-inference]
      summary: Whether the server is alive
      security: []
      responses:
        '200':
          description: Alive.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceLive' }
              example: { live: true }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/health/ready:
    get:
      operationId: getServerReady
      tags: [open-inference]
      summary: Whether the server should get requests
      description: As `/readyz`; the status says it too.
      security: []
      responses:
        '200':
          description: Ready.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceReady' }
              example: { live: true, ready: true }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503':
          description: Not ready.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Retry-After: { $ref: '#/components/headers/RetryAfter' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceReady' }
              example: { live: true, ready: false }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/stats:
    get:
      operationId: getAllStatistics
      tags: [open-inference]
      summary: What this gateway served of all models
      description: Of the caller's own requests, since the process started. Takes any customer key.
      responses:
        '200':
          description: By model and version.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceStatistics' }
              example: { model_stats: [{ name: iris, version: '1', last_inference: 1763733600000, inference_count: 2, execution_count: 1, inference_stats: { success: { count: 1, ns: 1200000 }, fail: { count: 0, ns: 0 }, queue: { count: 1, ns: 90000 }, compute_input: { count: 1, ns: 0 }, compute_infer: { count: 1, ns: 700000 }, compute_output: { count: 1, ns: 0 }, cache_hit: { count: 0, ns: 0 }, cache_miss: { count: 0, ns: 0 } }, batch_stats: [] }] }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}:
    get:
      operationId: getModelMetadata
      tags: [open-inference]
      summary: A model, its versions and its inputs
      description: A model that is not there and one that this key may not call are answered in the same words.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
      responses:
        '200':
          description: The model.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceModel' }
              example: { name: iris, versions: ['1'], platform: weir, inputs: [{ name: input0, datatype: FP64, shape: [-1, 4] }], outputs: [] }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/ready:
    get:
      operationId: getModelReady
      tags: [open-inference]
      summary: Whether a worker of it can be asked
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
      responses:
        '200':
          description: Ready.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceModelReady' }
              example: { name: iris, ready: true }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503':
          description: No worker of it can be asked.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceModelReady' }
              example: { name: iris, ready: false }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/stats:
    get:
      operationId: getModelStatistics
      tags: [open-inference]
      summary: What this gateway served of it
      description: Of the caller's own requests, since the process started; `inference_count` leaves out what the cache answered.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
      responses:
        '200':
          description: By version.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceStatistics' }
              example: { model_stats: [{ name: iris, version: '1', last_inference: 1763733600000, inference_count: 2, execution_count: 1, inference_stats: { success: { count: 1, ns: 1200000 }, fail: { count: 0, ns: 0 }, queue: { count: 1, ns: 90000 }, compute_input: { count: 1, ns: 0 }, compute_infer: { count: 1, ns: 700000 }, compute_output: { count: 1, ns: 0 }, cache_hit: { count: 0, ns: 0 }, cache_miss: { count: 0, ns: 0 } }, batch_stats: [] }] }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/versions/{version}:
    get:
      operationId: getModelVersionMetadata
      tags: [open-inference]
      summary: One version of a model
      description: A model that is not there and one that this key may not call are answered in the same words.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/ModelVersionName' }
      responses:
        '200':
          description: The model.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceModel' }
              example: { name: iris, versions: ['1'], platform: weir, inputs: [{ name: input0, datatype: FP64, shape: [-1, 4] }], outputs: [] }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/versions/{version}/ready:
    get:
      operationId: getModelVersionReady
      tags: [open-inference]
      summary: Whether a worker of it can be asked
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/ModelVersionName' }
      responses:
        '200':
          description: Ready.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceModelReady' }
              example: { name: iris, ready: true }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503':
          description: No worker of it can be asked.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceModelReady' }
              example: { name: iris, ready: false }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/versions/{version}/stats:
    get:
      operationId: getModelVersionStatistics
      tags: [open-inference]
      summary: What this gateway served of it
      description: Of the caller's own requests, since the process started; `inference_count` leaves out what the cache answered.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/ModelVersionName' }
      responses:
        '200':
          description: By version.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceStatistics' }
              example: { model_stats: [{ name: iris, version: '1', last_inference: 1763733600000, inference_count: 2, execution_count: 1, inference_stats: { success: { count: 1, ns: 1200000 }, fail: { count: 0, ns: 0 }, queue: { count: 1, ns: 90000 }, compute_input: { count: 1, ns: 0 }, compute_infer: { count: 1, ns: 700000 }, compute_output: { count: 1, ns: 0 }, cache_hit: { count: 0, ns: 0 }, cache_miss: { count: 0, ns: 0 } }, batch_stats: [] }] }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/infer:
    post:
      operationId: inferModel
      tags: [open-inference]
      summary: Ask a model with tensors
      description: |
        Needs the scope `predict`. Tensors are JSON, flat or nested, or in the binary form of the binary tensor data extension.
        Metered and charged as a prediction is.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/InferenceHeaderContentLength' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/InferRequest' }
            example: { id: '42', inputs: [{ name: input0, shape: [1, 4], datatype: FP64, data: [5.1, 3.5, 1.4, 0.2] }] }
          application/octet-stream:
            schema: { type: string, format: binary, description: 'JSON, and behind it the data of the tensors that have a `binary_data_size`.' }
      responses:
        '200':
          description: The answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
            Inference-Header-Content-Length: { $ref: '#/components/headers/InferenceHeaderContentLength' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/InferResponse' }
              example: { model_name: iris, model_version: '1', id: '42', outputs: [{ name: prediction, shape: [1], datatype: BYTES, data: [setosa] }] }
            application/octet-stream:
              schema: { type: string, format: binary, description: 'JSON, and behind it the data of the outputs in binary form.' }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '402': { $ref: '#/components/responses/OpenInferenceBalanceExhausted' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenInferenceConflict' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '415': { $ref: '#/components/responses/OpenInferenceUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenInferenceMismatch' }
        '429': { $ref: '#/components/responses/OpenInferenceTooManyRequests' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '502': { $ref: '#/components/responses/OpenInferenceBadUpstream' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '504': { $ref: '#/components/responses/OpenInferenceUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/generate:
    post:
      operationId: generateModel
      tags: [open-inference]
      summary: Ask a model for a text
      description: |
        Needs the scope `predict`. Goes on to workers that have this route, and as the completion of a text to those of the
        OpenAI API. Metered and charged as a completion is.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/GenerateRequest' }
            example: { text_input: Once upon a time, parameters: { max_tokens: 16, temperature: 0 } }
      responses:
        '200':
          description: The answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/GenerateResponse' }
              example: { model_name: storyteller, model_version: '1', text_output: ' there was a weir.' }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '402': { $ref: '#/components/responses/OpenInferenceBalanceExhausted' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenInferenceConflict' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '415': { $ref: '#/components/responses/OpenInferenceUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenInferenceMismatch' }
        '429': { $ref: '#/components/responses/OpenInferenceTooManyRequests' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '502': { $ref: '#/components/responses/OpenInferenceBadUpstream' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '504': { $ref: '#/components/responses/OpenInferenceUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/generate_stream:
    post:
      operationId: generateStreamModel
      tags: [open-inference]
      summary: Ask a model for a text, piece by piece
      description: |
        Needs the scope `predict`. Goes on to workers that have this route, and as the completion of a text to those of the
        OpenAI API. Settled once, however the stream ends; a failure in the middle of it is the event `{"error": "<text>"}`.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/GenerateRequest' }
            example: { text_input: Once upon a time, parameters: { max_tokens: 16, temperature: 0 } }
      responses:
        '200':
          description: The answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            text/event-stream:
              schema:
                type: string
                description: 'Events `data: {…}` of the form that generate answers with, each with its piece of the text.'
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '402': { $ref: '#/components/responses/OpenInferenceBalanceExhausted' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenInferenceConflict' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '415': { $ref: '#/components/responses/OpenInferenceUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenInferenceMismatch' }
        '429': { $ref: '#/components/responses/OpenInferenceTooManyRequests' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '502': { $ref: '#/components/responses/OpenInferenceBadUpstream' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '504': { $ref: '#/components/responses/OpenInferenceUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/versions/{version}/infer:
    post:
      operationId: inferModelVersion
      tags: [open-inference]
      summary: Ask a model with tensors
      description: |
        Needs the scope `predict`. Tensors are JSON, flat or nested, or in the binary form of the binary tensor data extension.
        Metered and charged as a prediction is.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/ModelVersionName' }
        - { $ref: '#/components/parameters/InferenceHeaderContentLength' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/InferRequest' }
            example: { id: '42', inputs: [{ name: input0, shape: [1, 4], datatype: FP64, data: [5.1, 3.5, 1.4, 0.2] }] }
          application/octet-stream:
            schema: { type: string, format: binary, description: 'JSON, and behind it the data of the tensors that have a `binary_data_size`.' }
      responses:
        '200':
          description: The answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
            Inference-Header-Content-Length: { $ref: '#/components/headers/InferenceHeaderContentLength' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/InferResponse' }
              example: { model_name: iris, model_version: '1', id: '42', outputs: [{ name: prediction, shape: [1], datatype: BYTES, data: [setosa] }] }
            application/octet-stream:
              schema: { type: string, format: binary, description: 'JSON, and behind it the data of the outputs in binary form.' }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '402': { $ref: '#/components/responses/OpenInferenceBalanceExhausted' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenInferenceConflict' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '415': { $ref: '#/components/responses/OpenInferenceUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenInferenceMismatch' }
        '429': { $ref: '#/components/responses/OpenInferenceTooManyRequests' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '502': { $ref: '#/components/responses/OpenInferenceBadUpstream' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '504': { $ref: '#/components/responses/OpenInferenceUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/versions/{version}/generate:
    post:
      operationId: generateModelVersion
      tags: [open-inference]
      summary: Ask a model for a text
      description: |
        Needs the scope `predict`. Goes on to workers that have this route, and as the completion of a text to those of the
        OpenAI API. Metered and charged as a completion is.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/ModelVersionName' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/GenerateRequest' }
            example: { text_input: Once upon a time, parameters: { max_tokens: 16, temperature: 0 } }
      responses:
        '200':
          description: The answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/GenerateResponse' }
              example: { model_name: storyteller, model_version: '1', text_output: ' there was a weir.' }
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '402': { $ref: '#/components/responses/OpenInferenceBalanceExhausted' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenInferenceConflict' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '415': { $ref: '#/components/responses/OpenInferenceUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenInferenceMismatch' }
        '429': { $ref: '#/components/responses/OpenInferenceTooManyRequests' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '502': { $ref: '#/components/responses/OpenInferenceBadUpstream' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '504': { $ref: '#/components/responses/OpenInferenceUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/models/{model}/versions/{version}/generate_stream:
    post:
      operationId: generateStreamModelVersion
      tags: [open-inference]
      summary: Ask a model for a text, piece by piece
      description: |
        Needs the scope `predict`. Goes on to workers that have this route, and as the completion of a text to those of the
        OpenAI API. Settled once, however the stream ends; a failure in the middle of it is the event `{"error": "<text>"}`.
      parameters:
        - { $ref: '#/components/parameters/ModelName' }
        - { $ref: '#/components/parameters/ModelVersionName' }
        - { $ref: '#/components/parameters/TraceParent' }
        - { $ref: '#/components/parameters/TraceState' }
        - { $ref: '#/components/parameters/ClientRequestId' }
        - { $ref: '#/components/parameters/IdempotencyKey' }
        - { $ref: '#/components/parameters/ReceiptForm' }
        - { $ref: '#/components/parameters/CacheControl' }
        - { $ref: '#/components/parameters/CacheUse' }
        - { $ref: '#/components/parameters/CacheTTL' }
        - { $ref: '#/components/parameters/Tags' }
        - { $ref: '#/components/parameters/CacheLabel' }
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: '#/components/schemas/GenerateRequest' }
            example: { text_input: Once upon a time, parameters: { max_tokens: 16, temperature: 0 } }
      responses:
        '200':
          description: The answer. Its usage is committed.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
            RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
            RateLimit: { $ref: '#/components/headers/RateLimit' }
            x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
            x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
            x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
            x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
            x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
            x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            x-weir-model: { $ref: '#/components/headers/Model' }
            x-weir-model-version: { $ref: '#/components/headers/ModelVersion' }
            x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
            x-weir-usage: { $ref: '#/components/headers/Usage' }
            x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
            x-weir-receipt: { $ref: '#/components/headers/Receipt' }
            x-weir-degraded: { $ref: '#/components/headers/Degraded' }
            x-weir-quota-exceeded: { $ref: '#/components/headers/QuotaExceeded' }
            Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
            Cache-Status: { $ref: '#/components/headers/CacheStatus' }
            Age: { $ref: '#/components/headers/Age' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            text/event-stream:
              schema:
                type: string
                description: 'Events `data: {…}` of the form that generate answers with, each with its piece of the text.'
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '402': { $ref: '#/components/responses/OpenInferenceBalanceExhausted' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '404': { $ref: '#/components/responses/OpenInferenceNotFound' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '409': { $ref: '#/components/responses/OpenInferenceConflict' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '415': { $ref: '#/components/responses/OpenInferenceUnsupportedMediaType' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '422': { $ref: '#/components/responses/OpenInferenceMismatch' }
        '429': { $ref: '#/components/responses/OpenInferenceTooManyRequests' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '502': { $ref: '#/components/responses/OpenInferenceBadUpstream' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '504': { $ref: '#/components/responses/OpenInferenceUpstreamTimeout' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /v2/repository/index:
    get:
      operationId: getRepositoryIndex
      tags: [open-inference]
      summary: The models that this key may call
      description: Aliases are models here. Takes any customer key.
      responses:
        '200':
          description: By name and version.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceIndex' }
              example: [{ name: iris, version: '1', state: READY, reason: '' }]
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }
    post:
      operationId: postRepositoryIndex
      tags: [open-inference]
      summary: The models that this key may call (the same, as that extension asks)
      description: With `ready` only those of which a worker can be asked.
      requestBody:
        required: false
        content:
          application/json:
            schema: { $ref: '#/components/schemas/OpenInferenceIndexRequest' }
            example: { ready: true }
      responses:
        '200':
          description: By name and version.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OpenInferenceIndex' }
              example: [{ name: iris, version: '1', state: READY, reason: '' }]
        '400': { $ref: '#/components/responses/OpenInferenceBadRequest' }
        '401': { $ref: '#/components/responses/OpenInferenceUnauthorized' }
        '403': { $ref: '#/components/responses/OpenInferenceForbidden' }
        '408': { $ref: '#/components/responses/OpenInferenceRequestTimeout' }
        '413': { $ref: '#/components/responses/OpenInferenceContentTooLarge' }
        '414': { $ref: '#/components/responses/OpenInferenceURITooLong' }
        '417': { $ref: '#/components/responses/OpenInferenceExpectationFailed' }
        '431': { $ref: '#/components/responses/OpenInferenceHeadersTooLarge' }
        '500': { $ref: '#/components/responses/OpenInferenceInternalError' }
        '503': { $ref: '#/components/responses/OpenInferenceUnavailable' }
        '505': { $ref: '#/components/responses/OpenInferenceHTTPVersionNotSupported' }

  /status/{id}:
    get:
      operationId: getStatus
      tags: [account]
      summary: What became of a request
      description: Needs the scope `read`. Shorter than `/api/v1/requests/{id}`, and with the result. Of jobs as well.
      parameters:
        - { $ref: '#/components/parameters/RequestIdInPath' }
      responses:
        '200':
          description: The state, and the result or the error where there is one.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/StatusReport' }
              example:
                request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
                status: completed
                result: { prediction: setosa, probabilities: [0.981, 0.019, 0.0] }
                error: null
                created_at: '2026-03-14T09:26:53.589793Z'
                completed_at: '2026-03-14T09:26:53.592310Z'
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '410': { $ref: '#/components/responses/Gone' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/credits:
    get:
      operationId: listCredits
      tags: [account]
      summary: Credits, newest first
      description: >-
        Needs the scope `billing`. The last 1,000, with what invoices have left of them, and the balance of an account that pays ahead.
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/OwnCredits' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/invoices:
    get:
      operationId: listInvoices
      tags: [account]
      summary: Invoices, newest first
      description: >-
        Needs the scope `billing`. Those that are issued, credit notes too; without their lines.
      parameters:
        - { $ref: '#/components/parameters/Limit' }
        - { $ref: '#/components/parameters/After' }
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/InvoiceList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/invoices/{id}:
    get:
      operationId: getInvoice
      tags: [account]
      summary: One invoice with its lines
      description: >-
        Needs the scope `billing`.
      parameters:
        - { $ref: '#/components/parameters/InvoiceInPath' }
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Invoice' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/invoices/{id}.html:
    get:
      operationId: getInvoicePage
      tags: [account]
      summary: An invoice as a page
      description: >-
        Needs the scope `billing`.
      parameters:
        - { $ref: '#/components/parameters/InvoiceInPath' }
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            text/html:
              schema: { type: string }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/invoices/{id}.pdf:
    get:
      operationId: getInvoicePDF
      tags: [account]
      summary: An invoice as a PDF
      description: >-
        Needs the scope `billing`.
      parameters:
        - { $ref: '#/components/parameters/InvoiceInPath' }
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/pdf:
              schema: { type: string }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/PDFUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/invoices/{id}.csv:
    get:
      operationId: getInvoiceTable
      tags: [account]
      summary: An invoice as a table
      description: >-
        Needs the scope `billing`.
      parameters:
        - { $ref: '#/components/parameters/InvoiceInPath' }
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            text/csv:
              schema: { type: string }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/invoices/{id}/lines/{line}/requests:
    get:
      operationId: listBilledRequests
      tags: [account]
      summary: The requests behind a line
      description: >-
        Needs the scope `billing`. Where a tier includes amounts or has bands, lines of one model and meter share their requests.
      parameters:
        - { $ref: '#/components/parameters/InvoiceInPath' }
        - { $ref: '#/components/parameters/LineInPath' }
        - { $ref: '#/components/parameters/BilledLimit' }
        - { $ref: '#/components/parameters/After' }
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/BilledRequestList' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

  /api/v1/subscription:
    get:
      operationId: getSubscription
      tags: [account]
      summary: Which tier you are on, and will be
      description: >-
        Needs the scope `billing`. With the running month, the trial, and a change that is scheduled.
      responses:
        '200':
          description: It.
          headers:
            x-request-id: { $ref: '#/components/headers/RequestId' }
            Server-Timing: { $ref: '#/components/headers/ServerTiming' }
            Cache-Control: { $ref: '#/components/headers/NoStore' }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Subscription' }
        '400': { $ref: '#/components/responses/BadRequest' }
        '401': { $ref: '#/components/responses/Unauthorized' }
        '403': { $ref: '#/components/responses/Forbidden' }
        '404': { $ref: '#/components/responses/NotFound' }
        '408': { $ref: '#/components/responses/RequestTimeout' }
        '413': { $ref: '#/components/responses/ContentTooLarge' }
        '414': { $ref: '#/components/responses/URITooLong' }
        '417': { $ref: '#/components/responses/ExpectationFailed' }
        '422': { $ref: '#/components/responses/ValidationFailed' }
        '431': { $ref: '#/components/responses/HeadersTooLarge' }
        '500': { $ref: '#/components/responses/InternalError' }
        '503': { $ref: '#/components/responses/StorageUnavailable' }
        '505': { $ref: '#/components/responses/HTTPVersionNotSupported' }

components:
  securitySchemes:
    bearer:
      type: http
      scheme: bearer
      bearerFormat: weir_<live|test>_<12 of 0-9A-Za-z>_<38 of 0-9A-Za-z>
    xApiKey: { type: apiKey, in: header, name: x-api-key }
    apiKey: { type: apiKey, in: header, name: api-key }

  parameters:
    InvoiceInPath:
      name: id
      in: path
      required: true
      schema: { $ref: '#/components/schemas/InvoiceId' }
    LineInPath:
      name: line
      in: path
      required: true
      schema: { type: integer, minimum: 1 }
    BilledLimit:
      name: limit
      in: query
      description: The most items.
      schema: { type: integer, minimum: 1, maximum: 1000, default: 100 }
    ExportFormat:
      name: format
      in: query
      description: How the rows are written. By default `csv`.
      schema: { $ref: '#/components/schemas/ExportFormat' }
    ExportStart:
      name: start
      in: query
      required: true
      description: First instant, RFC 3339 with an offset.
      schema: { $ref: '#/components/schemas/Instant' }
    ExportEnd:
      name: end
      in: query
      required: true
      description: First instant no longer exported, after `start`, by at most 400 days.
      schema: { $ref: '#/components/schemas/Instant' }
    ExportGranularity:
      name: granularity
      in: query
      description: What a row is about. By default `entries`; sums go with `csv` and `jsonl`.
      schema: { $ref: '#/components/schemas/ExportGranularity' }
    InferenceHeaderContentLength:
      name: Inference-Header-Content-Length
      in: header
      description: Bytes of the JSON, behind which binary data begin. Without it the whole body is JSON.
      schema: { type: integer, minimum: 2 }
    ModelName:
      name: model
      in: path
      required: true
      description: A model or an alias.
      schema: { type: string }
      example: iris
    ModelVersionName:
      name: version
      in: path
      required: true
      description: A version, or `latest`.
      schema: { type: string }
      example: '1'
    TraceParent:
      name: traceparent
      in: header
      description: W3C Trace Context; continued and passed on to the worker. A malformed one is ignored.
      schema: { type: string }
    TraceState:
      name: tracestate
      in: header
      description: W3C Trace Context; passed on with `traceparent`.
      schema: { type: string }
    ClientRequestId:
      name: x-request-id
      in: header
      description: >-
        An id of yours, echoed as `x-client-request-id` if it is at most 128 characters of `A-Za-z0-9._-`. The request's
        own id is always made here.
      schema: { type: string }
    CacheControl:
      name: Cache-Control
      in: header
      description: >-
        What is wanted of the cache, for a model that has one (RFC 9111). `no-cache` asks the model and keeps its answer,
        `no-store` asks it and keeps nothing, `max-age` wants no older answer, `only-if-cached` wants no answer but a kept
        one, or 504.
      schema: { type: string }
      example: max-age=60
    CacheUse:
      name: x-weir-cache
      in: header
      description: >-
        The same in one word, and the last word where both are sent. `use` is the default, `bypass` asks the model and keeps
        nothing, `refresh` asks it and keeps its answer, `only` wants a kept answer or 504.
      schema: { type: string, enum: [use, bypass, refresh, only] }
    CacheTTL:
      name: x-weir-cache-ttl
      in: header
      description: How many seconds the answer is kept; more than the model's maximum is that.
      schema: { type: integer, minimum: 1, maximum: 31536000 }
    Tags:
      name: x-weir-tags
      in: header
      description: >-
        What the request is for, by which usage can be told: up to 16 pairs with commas between them, each key once. A key is of 1 to 32 of
        `a-z 0-9 _ . -` and begins with a letter or digit, a value of 1 to 64 of `A-Z a-z 0-9 _ . : / @ + -`. Anything else is 400
        `invalid_tags`.
      schema: { type: string, format: tags, pattern: '^[a-z0-9][a-z0-9_.-]{0,31}=[A-Za-z0-9_.:/@+-]{1,64}(,[a-z0-9][a-z0-9_.-]{0,31}=[A-Za-z0-9_.:/@+-]{1,64}){0,15}$' }
      example: team=search,env=prod
    CacheLabel:
      name: x-weir-cache-key
      in: header
      description: >-
        Your name for what is asked. Answers under different names are kept apart, and the operator can have those of a
        name or of a pattern such as `user123_*` forgotten.
      schema: { type: string, pattern: '^[A-Za-z0-9._:-]{1,128}$' }
    ReceiptForm:
      name: x-weir-receipt
      in: header
      description: >-
        Which receipt of its charge the answer carries: `short` names place, path and signature, `full` what was charged as
        well. Left out, it is as the tenant is set. A request with an `Idempotency-Key` and a job have none: their
        proofs are at `/api/v1/ledger/proofs/{request}`. `generate_stream` has no place for one.
      schema: { type: string, enum: [none, short, full] }
    LedgerRequest:
      name: request
      in: path
      required: true
      description: A request's id.
      schema: { type: string, maxLength: 64 }
    IdempotencyKey:
      name: Idempotency-Key
      in: header
      description: |
        Your name for this one operation, best a UUID made for it. A request with a key that was charged in the last 48
        hours is answered with that request's answer, is not sent to a worker and is not charged.

        1 to 255 visible ASCII characters, bare or as a quoted string (RFC 8941); both forms are the same key. A key
        is the tenant's: another tenant's is another key, another API key of the same tenant is not. It stands for one
        route and body; blanks between tokens and the order of members make no difference to a body, another way to
        write a number does.

        What was not charged is not kept: after an error the same key runs anew.
      schema: { type: string, pattern: '^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$' }
      example: 8e03978e-40d5-43dd-bc93-6894a57f9324
    Prefer:
      name: Prefer
      in: header
      description: >-
        `respond-async` (RFC 7240) makes the request a job: 202, and the answer is fetched later. Other preferences are ignored.
      schema: { type: string }
      example: respond-async
    JobPriority:
      name: x-weir-priority
      in: header
      description: >-
        Of a job, among those of the same account; 9 comes first. It is checked also where the request becomes no job.
      schema: { type: integer, minimum: 0, maximum: 9, default: 5 }
    JobRunAt:
      name: x-weir-run-at
      in: header
      description: >-
        Of a job: not before this instant. One that is more than seven days ahead is refused as 400. It is checked also where the
        request becomes no job.
      schema: { $ref: '#/components/schemas/Instant' }
    JobWait:
      name: wait
      in: query
      description: How long to wait for the job's end, `0s` to `60s`, or in milliseconds as `500ms`.
      schema: { type: string, pattern: '^[0-9]{1,6}(s|ms)?$' }
      example: 20s
    RequestIdInPath:
      name: id
      in: path
      required: true
      description: A request's id. One that is malformed is unknown.
      schema: { $ref: '#/components/schemas/RequestId' }
      example: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
    FileIdInPath:
      name: id
      in: path
      required: true
      description: A file's id. One that is malformed is unknown.
      schema: { $ref: '#/components/schemas/OpenAIFileId' }
    BatchIdInPath:
      name: id
      in: path
      required: true
      description: A batch's id. One that is malformed is unknown.
      schema: { $ref: '#/components/schemas/OpenAIBatchId' }
    WebhookIdInPath:
      name: id
      in: path
      required: true
      description: A webhook's id. One that is malformed is unknown.
      schema: { $ref: '#/components/schemas/WebhookId' }
      example: whk_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
    WebhookDeliveryIdInPath:
      name: id
      in: path
      required: true
      description: A delivery's id. One that is malformed is unknown.
      schema: { $ref: '#/components/schemas/WebhookDeliveryId' }
      example: dlv_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
    Limit:
      name: limit
      in: query
      description: The most items in the answer.
      schema: { type: integer, minimum: 1, maximum: 100, default: 20 }
    After:
      name: after
      in: query
      description: The `last_id` of the page before, to get the next one.
      schema: { type: string, minLength: 1, maxLength: 256 }
    Before:
      name: before
      in: query
      description: The `first_id` of the page after, to get the one before. Not together with `after`.
      schema: { type: string, minLength: 1, maxLength: 256 }

  headers:
    Receipt:
      description: >-
        A signed receipt of the charge, base64url: see docs/api/ledger-proof.md. Only where the request or the tenant wants
        one. In a stream it stands in the last event, in `x_weir`.
      required: false
      schema: { type: string, maxLength: 2048, pattern: '^[A-Za-z0-9_-]+$' }
    ResultTag:
      description: The SHA-256 of the result, in quotation marks.
      required: true
      schema: { type: string, pattern: '^"[0-9a-f]{64}"$' }
    AcceptRanges:
      description: Ranges of bytes are served.
      required: true
      schema: { type: string, const: bytes }
    UsageFile:
      description: Of a CSV answer, what the file is called.
      schema: { type: string, const: 'attachment; filename="usage.csv"' }
    Attachment:
      description: Always an attachment.
      required: true
      schema: { type: string }
    InferenceHeaderContentLength:
      description: With binary data only. Bytes of the JSON, behind which they begin.
      schema: { type: integer, minimum: 2 }
    RequestId:
      description: Our id of this request, in every answer, errors included.
      required: true
      schema: { $ref: '#/components/schemas/RequestId' }
    ClientRequestId:
      description: The `x-request-id` of the request, where it was acceptable.
      schema: { type: string, pattern: '^[A-Za-z0-9._-]{1,128}$' }
    RateLimitPolicy:
      description: >-
        The limits of the tenant and the key, `q` units in `w` seconds, or at once or for all time without `w`. Quotas have
        names such as `tokens-month`; `rpm`, `tpm` and `concurrency` are the tenant's rate limits, with `key-` in front
        those of the key. Clients ignore what they do not know.
      schema: { type: string }
      example: '"tokens-month";q=1000000;w=2678400;qu="tokens"'
    RateLimit:
      description: >-
        What is left (`r`) and the seconds until the limit begins anew (`t`), if it does, the tightest limit first.
      schema: { type: string }
      example: '"tokens-month";r=409233;t=86400'
    QuotaExceeded:
      description: >-
        A quota that does not refuse and whose limit has been passed in this period, by its policy; the field occurs once for
        each. Left out where there is none. It can be a few seconds late where the use was another gateway's.
      schema: { type: string }
      example: tokens-month
    LimitRequests:
      description: Requests in the period of the tightest quota or rate limit of requests. Left out where there is none.
      schema: { type: integer, format: int64, minimum: 0 }
    RemainingRequests:
      description: Requests left in it.
      schema: { type: integer, format: int64, minimum: 0 }
    ResetRequests:
      description: How long until it begins anew, as in `6m0s` or `250ms`.
      schema: { type: string, pattern: '^([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s|[0-9]+ms)$' }
    LimitTokens:
      description: Tokens in the period of the tightest quota or rate limit of tokens. Left out where there is none.
      schema: { type: integer, format: int64, minimum: 0 }
    RemainingTokens:
      description: Tokens left in it.
      schema: { type: integer, format: int64, minimum: 0 }
    ResetTokens:
      description: How long until it begins anew, as in `6m0s` or `250ms`.
      schema: { type: string, pattern: '^([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s|[0-9]+ms)$' }
    RetryAfter:
      description: Seconds to wait before the next try.
      schema: { type: integer, minimum: 0 }
    ShouldRetry:
      description: Whether sending the request again can help at all. Some client libraries heed it.
      schema: { type: string, enum: ['true', 'false'] }
    WWWAuthenticate:
      description: Always `Bearer`.
      required: true
      schema: { type: string, const: Bearer }
    ServerTiming:
      description: Milliseconds by stage.
      schema: { type: string }
      example: auth;dur=0.1, quota;dur=0.1, route;dur=0.0, upstream;dur=1.4, settle;dur=0.9
    Model:
      description: The model that answered.
      schema: { $ref: '#/components/schemas/ModelName' }
    ModelVersion:
      description: Its version.
      schema: { type: string }
    PriceVersion:
      description: The version of the tier whose prices apply.
      schema: { $ref: '#/components/schemas/PriceVersion' }
    Usage:
      description: What was metered. Whole numbers only.
      schema: { type: string, pattern: '^in=[0-9]+, cached=[0-9]+, out=[0-9]+$' }
      example: in=4, cached=0, out=1
    CostMicros:
      description: What this one request costs when rated alone, in millionths of the currency's unit.
      schema: { type: string, pattern: '^[0-9]+; currency=[A-Z]{3}$' }
      example: 11; currency=USD
    Degraded:
      description: >-
        What the gateway does without at the moment, one field for each: `redis`; `rate_limits` where the limits of this
        request are enforced by each gateway on its own; `cache` where each gateway caches this model's answers on its own.
        Left out when nothing is missing.
      schema: { type: string }
      example: redis
    CacheStatus:
      description: >-
        How the cache took part (RFC 9211); left out for a model that has none. `weir; hit; ttl=271` is a kept answer,
        `weir; fwd=uri-miss; collapsed` the answer to the same question of another request at the same time, anything else
        the model's own.
      schema: { type: string }
      example: weir; hit; ttl=271
    Age:
      description: Seconds since the model gave the answer, for a kept one.
      schema: { type: integer, minimum: 0 }
    IdempotentReplayed:
      description: >-
        `true` when this is the answer of an earlier request with the same `Idempotency-Key`: its status, its body byte
        for byte, its `x-request-id` and its `x-weir-…` headers. Left out otherwise.
      schema: { type: string, const: 'true' }
    Charged:
      description: >-
        Why an answer that is no prediction was charged: `failed_request`, the model's worker refused the input and the tier charges one
        request for that. Left out of every other refusal: they are free.
      schema: { type: string, const: failed_request }
    NoStore:
      description: Always `no-store`.
      schema: { type: string, const: no-store }

  responses:
    BalanceExhausted:
      description: '`balance_exhausted`: a prepaid account has nothing left; the text tells the balance that was found.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    OpenInferenceBalanceExhausted:
      description: A prepaid account has nothing left.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
    PDFUnavailable:
      description: '`pdf_unavailable`: no PDF can be made, or not now. `storage_unavailable`: the database cannot be reached.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        Retry-After: { $ref: '#/components/headers/RetryAfter' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    JobQueued:
      description: The job is queued durably. Nothing is charged before it has run.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-client-request-id: { $ref: '#/components/headers/ClientRequestId' }
        Location:
          description: Where the job is.
          schema: { type: string, format: uri-reference }
        Retry-After: { $ref: '#/components/headers/RetryAfter' }
        Preference-Applied:
          description: '`respond-async`, where it was preferred (RFC 7240).'
          schema: { type: string }
        RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
        RateLimit: { $ref: '#/components/headers/RateLimit' }
        Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
        Cache-Control: { $ref: '#/components/headers/NoStore' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/JobReceipt' }
          example: { request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42, status: queued }
    OpenAIBadRequest:
      description: 'The request cannot be read, or does not fit the model or the schema; the field is named in the error.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-weir-charged: { $ref: '#/components/headers/Charged' }
        x-weir-model: { $ref: '#/components/headers/Model' }
        x-weir-usage: { $ref: '#/components/headers/Usage' }
        x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
        x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
        Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIUnauthorized:
      description: No key, or none that is valid.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        WWW-Authenticate: { $ref: '#/components/headers/WWWAuthenticate' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: authentication_error, param: null, code: invalid_api_key } }
    OpenAIForbidden:
      description: The key may not do this, or not call this model, or the account is suspended.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAINotFound:
      description: 'There is no such model (`model_not_found`), or no such thing, or it is not yours.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: model_not_found } }
    OpenAIRequestTimeout:
      description: The request did not arrive in time.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIConflict:
      description: A request with this idempotency key is under way.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIContentTooLarge:
      description: The body is too large.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-weir-charged: { $ref: '#/components/headers/Charged' }
        x-weir-model: { $ref: '#/components/headers/Model' }
        x-weir-usage: { $ref: '#/components/headers/Usage' }
        x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
        x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
        Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIURITooLong:
      description: The request target is too long.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIUnsupportedMediaType:
      description: The body is not JSON, or it is compressed.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIExpectationFailed:
      description: The expectation cannot be met.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIMismatch:
      description: The idempotency key was used with another request.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAITooManyRequests:
      description: 'A rate limit, or a quota: then with `x-should-retry: false`.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: insufficient_quota, param: null, code: insufficient_quota } }
    OpenAIHeadersTooLarge:
      description: The header is too large.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: invalid_request_error, param: null, code: bad_request } }
    OpenAIInternalError:
      description: Something failed on our side. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: server_error, param: null, code: internal_error } }
    OpenAIBadUpstream:
      description: The worker gave no usable answer. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: server_error, param: null, code: internal_error } }
    OpenAIUnavailable:
      description: No worker, or no database to record usage in. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: server_error, param: null, code: internal_error } }
    OpenAIUpstreamTimeout:
      description: The worker did not answer in time. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: server_error, param: null, code: internal_error } }
    OpenAIHTTPVersionNotSupported:
      description: The HTTP version is not supported.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenAIError' }
          example: { error: { message: What to do about it., type: server_error, param: null, code: internal_error } }
    OpenInferenceBadRequest:
      description: 'The request cannot be read, or does not fit the model or the schema.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-weir-charged: { $ref: '#/components/headers/Charged' }
        x-weir-model: { $ref: '#/components/headers/Model' }
        x-weir-usage: { $ref: '#/components/headers/Usage' }
        x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
        x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
        Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceUnauthorized:
      description: No key, or none that is valid.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        WWW-Authenticate: { $ref: '#/components/headers/WWWAuthenticate' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceForbidden:
      description: The key may not do this, or not call this model, or the account is suspended.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceNotFound:
      description: 'There is no such model (`model_not_found`), or no such thing, or it is not yours.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceRequestTimeout:
      description: The request did not arrive in time.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceConflict:
      description: A request with this idempotency key is under way.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceContentTooLarge:
      description: The body is too large.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-weir-charged: { $ref: '#/components/headers/Charged' }
        x-weir-model: { $ref: '#/components/headers/Model' }
        x-weir-usage: { $ref: '#/components/headers/Usage' }
        x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
        x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
        Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceURITooLong:
      description: The request target is too long.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceUnsupportedMediaType:
      description: The body is not JSON, or it is compressed.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceExpectationFailed:
      description: The expectation cannot be met.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceMismatch:
      description: The idempotency key was used with another request.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceTooManyRequests:
      description: 'A rate limit or a quota, as `x-weir-error` says (a quota with `x-should-retry: false`).'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceHeadersTooLarge:
      description: The header is too large.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceInternalError:
      description: Something failed on our side. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceBadUpstream:
      description: The worker gave no usable answer. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceUnavailable:
      description: No worker, or no database to record usage in. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceUpstreamTimeout:
      description: The worker did not answer in time. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    OpenInferenceHTTPVersionNotSupported:
      description: The HTTP version is not supported.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/json:
          schema: { $ref: '#/components/schemas/OpenInferenceError' }
          example: { error: What to do about it. }
    BadRequest:
      description: >-
        The request cannot be read: `bad_request`, `invalid_json`, `duplicate_key`, `too_deep`,
        `invalid_number`, `forbidden_field` or `invalid_tags`.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
          example:
            type: about:blank
            title: Bad Request
            status: 400
            detail: The body is not one JSON document.
            code: invalid_json
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            errors: []
    Unauthorized:
      description: >-
        `missing_key`, or `invalid_api_key` for a key that is malformed, unknown, revoked or expired. The answer does
        not say which.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        WWW-Authenticate: { $ref: '#/components/headers/WWWAuthenticate' }
        x-should-retry: { $ref: '#/components/headers/ShouldRetry' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
          example:
            type: about:blank
            title: Unauthorized
            status: 401
            detail: The API key is not valid.
            code: invalid_api_key
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            errors: []
    Forbidden:
      description: >-
        The key is good, but may not do this: `insufficient_scope`, `model_not_allowed`, or `tenant_suspended`.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-should-retry: { $ref: '#/components/headers/ShouldRetry' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    NotFound:
      description: '`not_found`: there is none, or it is not yours; the answer does not say which. `model_not_found`: no model has this name.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    ResultGone:
      description: '`result_gone`: the result was kept for its time, or your retention has become stricter since.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    RangeNotSatisfiable:
      description: '`range_not_satisfiable`: the range begins behind the result, whose length `Content-Range` tells.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        Content-Range:
          description: How many bytes there are.
          required: true
          schema: { type: string, examples: ['bytes */4096'] }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    Gone:
      description: The job's result was kept for its time and is gone.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        Cache-Control: { $ref: '#/components/headers/NoStore' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    Conflict:
      description: '`conflict`: prices of this time had different currencies, which cannot be added up.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    KeyInProgress:
      description: >-
        `idempotency_in_progress`: a request with this key is under way. After `Retry-After` its answer is there; when
        its gateway died, the next request with the key runs, within the lease time.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        Retry-After: { $ref: '#/components/headers/RetryAfter' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
          example:
            type: about:blank
            title: A request with this idempotency key is under way
            status: 409
            detail: A request with this Idempotency-Key is under way. Send yours again in a second to get its answer.
            instance: /api/v1/requests/req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            code: idempotency_in_progress
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            errors: []
    PredictUnprocessable:
      description: >-
        `validation_failed`: the request was read, but a value is wrong. `errors` names each one. Where the model's worker refused
        the input and the tier charges that, the member charge says what it cost.
        `idempotency_mismatch`: the key was used with another route or body.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-weir-charged: { $ref: '#/components/headers/Charged' }
        x-weir-model: { $ref: '#/components/headers/Model' }
        x-weir-usage: { $ref: '#/components/headers/Usage' }
        x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
        x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
        Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
        x-should-retry: { $ref: '#/components/headers/ShouldRetry' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/PredictProblem' }
          example:
            type: about:blank
            title: The request does not fit the model or the schema
            status: 422
            detail: '/features: has 3 numbers, the model iris takes 4'
            instance: /api/v1/requests/req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            code: validation_failed
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            errors:
              - location: /features
                message: has 3 numbers, the model iris takes 4
                fix: Send 4 numbers for each row.
    RequestTimeout:
      description: '`request_timeout`: the request arrived too slowly. The connection is closed.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    ContentTooLarge:
      description: '`request_too_large`: the body is over the limit. It was not read, and the connection is closed.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-weir-charged: { $ref: '#/components/headers/Charged' }
        x-weir-model: { $ref: '#/components/headers/Model' }
        x-weir-usage: { $ref: '#/components/headers/Usage' }
        x-weir-price-version: { $ref: '#/components/headers/PriceVersion' }
        x-weir-cost-micros: { $ref: '#/components/headers/CostMicros' }
        Idempotent-Replayed: { $ref: '#/components/headers/IdempotentReplayed' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/PredictProblem' }
    URITooLong:
      description: '`uri_too_long`: the request target is over 8 KiB.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    UnsupportedMediaType:
      description: '`unsupported_media_type`: the body is not `application/json`. `unsupported_encoding`: it has a content coding.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    ExpectationFailed:
      description: '`expectation_failed`: another expectation than `100-continue`.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    ValidationFailed:
      description: '`validation_failed`: the request was read, but a value is wrong. `errors` names each one.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-should-retry: { $ref: '#/components/headers/ShouldRetry' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
          example:
            type: about:blank
            title: Unprocessable Content
            status: 422
            detail: One value is not acceptable.
            instance: /predict/
            code: validation_failed
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            errors:
              - location: /features
                message: has 3 numbers, the model iris takes 4
                fix: Send 4 numbers for each row.
    ForbiddenTarget:
      description: >-
        `forbidden_target`: the address is one to which nothing is sent. Or `validation_failed`: a value is wrong.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        x-should-retry: { $ref: '#/components/headers/ShouldRetry' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
          example:
            type: about:blank
            title: Nothing is sent to this address
            status: 422
            detail: '/url: has an address that is private, local or otherwise not on the public internet'
            instance: /api/v1/webhooks
            code: forbidden_target
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            errors:
              - location: /url
                message: has an address that is private, local or otherwise not on the public internet
                fix: Send a public address such as https://example.com/weir.
    QuotaExceeded:
      description: >-
        `quota_exceeded`: a quota is used up, and sending the request again before `resets_at` does not help.
        `rate_limited`: too much came in a short time, and the request can be sent again after Retry-After; without that
        field it asks for more than the limit ever allows. The body has the numbers that decided; nothing was consumed
        and no worker was called. `too_many_jobs`: the account has as many queued jobs as it may.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        Retry-After: { $ref: '#/components/headers/RetryAfter' }
        x-should-retry: { $ref: '#/components/headers/ShouldRetry' }
        RateLimit-Policy: { $ref: '#/components/headers/RateLimitPolicy' }
        RateLimit: { $ref: '#/components/headers/RateLimit' }
        x-ratelimit-limit-requests: { $ref: '#/components/headers/LimitRequests' }
        x-ratelimit-remaining-requests: { $ref: '#/components/headers/RemainingRequests' }
        x-ratelimit-reset-requests: { $ref: '#/components/headers/ResetRequests' }
        x-ratelimit-limit-tokens: { $ref: '#/components/headers/LimitTokens' }
        x-ratelimit-remaining-tokens: { $ref: '#/components/headers/RemainingTokens' }
        x-ratelimit-reset-tokens: { $ref: '#/components/headers/ResetTokens' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/LimitProblem' }
          example:
            type: https://iana.org/assignments/http-problem-types#quota-exceeded
            title: Request cannot be satisfied as assigned quota has been exceeded
            status: 429
            detail: The quota tokens-month has 100 tokens left, and the request needs up to 800.
            instance: /api/v1/requests/req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            code: quota_exceeded
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            violated-policies: [tokens-month]
            quota:
              policy: tokens-month
              unit: tokens
              limit: 1000000
              settled: 999400
              held: 500
              requested: 800
              resets_at: '2026-04-01T00:00:00Z'
            errors: []
    HeadersTooLarge:
      description: '`headers_too_large`: more than 100 fields, one over 16 KiB, or over 32 KiB together.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    InternalError:
      description: '`internal_error`: a defect of ours. Nothing was charged. The request id finds it in the log.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    BadUpstream:
      description: '`bad_upstream`: the worker answered with something that is no answer. Nothing was charged.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    PredictUnavailable:
      description: >-
        `no_healthy_worker`: no worker of the model can be reached. `metering_unavailable`: usage cannot be recorded
        just now, so nothing is served. `overloaded`: all workers of the model are busy, or too many requests of the
        tenant wait for quota at once. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        Retry-After: { $ref: '#/components/headers/RetryAfter' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
          example:
            type: about:blank
            title: Service Unavailable
            status: 503
            detail: Usage cannot be recorded at the moment, so the request was not served.
            instance: /predict/
            code: metering_unavailable
            request_id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
            errors: []
    StorageUnavailable:
      description: '`storage_unavailable`: the database cannot be reached.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
        Retry-After: { $ref: '#/components/headers/RetryAfter' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    UpstreamTimeout:
      description: >-
        `upstream_timeout`: the worker did not answer in time. `not_cached`: the request wants a kept answer and there is
        none. Nothing was charged.
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }
    HTTPVersionNotSupported:
      description: '`http_version_not_supported`: only HTTP/1.1 is spoken.'
      headers:
        x-request-id: { $ref: '#/components/headers/RequestId' }
      content:
        application/problem+json:
          schema: { $ref: '#/components/schemas/Problem' }

  schemas:
    SubscriptionStay:
      type: object
      required: [tier, price_version, currency, starts_at, ends_at, trial_ends_at]
      properties:
        tier: { type: string }
        price_version: { $ref: '#/components/schemas/PriceVersion' }
        currency: { $ref: '#/components/schemas/Currency' }
        starts_at: { $ref: '#/components/schemas/Instant' }
        ends_at: { type: [string, 'null'], format: date-time }
        trial_ends_at: { type: [string, 'null'], format: date-time }
    ScheduledChange:
      type: object
      required: [tier, price_version, due_at]
      properties:
        tier: { type: string }
        price_version: { $ref: '#/components/schemas/PriceVersion' }
        due_at: { $ref: '#/components/schemas/Instant' }
    Subscription:
      type: object
      required: [object, tenant_id, current, scheduled, trial, period, time_zone, history]
      properties:
        object: { type: string, const: subscription }
        tenant_id: { type: string, format: uuid }
        current: { anyOf: [{ $ref: '#/components/schemas/SubscriptionStay' }, { type: 'null' }] }
        scheduled: { anyOf: [{ $ref: '#/components/schemas/ScheduledChange' }, { type: 'null' }] }
        trial: { type: boolean, description: Whether usage is free at the moment. }
        period: { type: object, required: [start, end], properties: { start: { $ref: '#/components/schemas/Instant' }, end: { $ref: '#/components/schemas/Instant' } } }
        time_zone: { $ref: '#/components/schemas/TimeZone' }
        history: { type: array, items: { $ref: '#/components/schemas/SubscriptionStay' } }
    InvoiceId: { type: string, description: '`inv_` and a UUID.', pattern: '^inv_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }
    CreditId: { type: string, description: '`crd_` and a UUID.', pattern: '^crd_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }
    InvoiceState: { type: string, enum: [draft, finalised, paid, void] }
    InvoiceLine:
      type: object
      required: [line, kind, description, price_version, model, meter, band, start, end, quantity, unit_price, amount_micros]
      properties:
        line: { type: integer, minimum: 1 }
        kind: { type: string, enum: [base_fee, usage, included, trial, minimum_commitment, late_usage, carried_credit, credit_note] }
        description: { type: string }
        price_version: { type: [string, 'null'] }
        model: { type: [string, 'null'] }
        meter: { type: [string, 'null'] }
        band: { type: [integer, 'null'] }
        start: { $ref: '#/components/schemas/Instant' }
        end: { $ref: '#/components/schemas/Instant' }
        quantity: { type: [string, 'null'], description: A plain decimal; as it is priced. }
        unit_price: { type: [string, 'null'], description: A plain decimal of the currency's unit. }
        amount_micros: { $ref: '#/components/schemas/Micros' }
    AppliedCredit:
      type: object
      required: [credit_id, kind, reason, amount_micros]
      properties:
        credit_id: { $ref: '#/components/schemas/CreditId' }
        kind: { type: string }
        reason: { type: string }
        amount_micros: { $ref: '#/components/schemas/Micros' }
    Invoice:
      type: object
      required: [object, id, kind, state, number, corrects, tenant_id, customer, issuer, period, period_start, period_end, time_zone, currency, subtotal_micros, credits_micros, total_micros, credited_micros, owed_micros, form, granted_micros, void_reason, reissue, note, drafted_at, finalised_at, due_at, paid_at, voided_at]
      properties:
        object: { type: string, const: invoice }
        id: { $ref: '#/components/schemas/InvoiceId' }
        kind: { type: string, enum: [invoice, credit_note] }
        state: { $ref: '#/components/schemas/InvoiceState' }
        number: { type: [string, 'null'], description: Without a gap within an issuer; null for a draft. }
        corrects: { type: [string, 'null'], description: Of a credit note, the invoice. }
        tenant_id: { type: string, format: uuid }
        customer: { type: string }
        issuer: { type: string }
        period: { type: string, description: 'As in 2026-03.' }
        period_start: { $ref: '#/components/schemas/Instant' }
        period_end: { $ref: '#/components/schemas/Instant' }
        time_zone: { $ref: '#/components/schemas/TimeZone' }
        currency: { $ref: '#/components/schemas/Currency' }
        subtotal_micros: { $ref: '#/components/schemas/Micros' }
        credits_micros: { $ref: '#/components/schemas/Micros' }
        total_micros: { $ref: '#/components/schemas/Micros' }
        credited_micros: { $ref: '#/components/schemas/Micros' }
        owed_micros: { type: integer, format: int64, minimum: 0, description: 'What is left to pay: of a finalised invoice the total less what credit notes took off, otherwise 0.' }
        form: { type: [string, 'null'], enum: [reduction, credit, money, null], description: 'Of a credit note, what becomes of its amount but for `granted_micros`: less is asked for, a credit, or money given back outside of Weir.' }
        granted_micros: { type: integer, format: int64, minimum: 0, description: 'Of a credit note, what it gave as a credit.' }
        void_reason: { type: [string, 'null'] }
        reissue: { type: [boolean, 'null'], description: 'Of a void invoice, whether the run issues its period anew.' }
        note: { type: string }
        drafted_at: { $ref: '#/components/schemas/Instant' }
        finalised_at: { type: [string, 'null'], format: date-time }
        due_at: { type: [string, 'null'], format: date-time }
        paid_at: { type: [string, 'null'], format: date-time }
        voided_at: { type: [string, 'null'], format: date-time }
        lines: { type: array, items: { $ref: '#/components/schemas/InvoiceLine' }, description: Left out in lists. }
        credits: { type: array, items: { $ref: '#/components/schemas/AppliedCredit' }, description: Left out in lists. }
    InvoiceList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data: { type: array, items: { $ref: '#/components/schemas/Invoice' } }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'] }
        has_more: { type: boolean }
    Credit:
      type: object
      required: [object, id, kind, currency, amount_micros, remaining_micros, priority, effective_at, expires_at, revoked_at, reason, created_at, tenant_id]
      properties:
        object: { type: string, const: credit }
        id: { $ref: '#/components/schemas/CreditId' }
        kind: { type: string, enum: [promotional, prepaid, refund] }
        currency: { $ref: '#/components/schemas/Currency' }
        amount_micros: { $ref: '#/components/schemas/Micros' }
        remaining_micros: { $ref: '#/components/schemas/Micros' }
        priority: { type: integer, minimum: 0, maximum: 1000 }
        effective_at: { $ref: '#/components/schemas/Instant' }
        expires_at: { type: [string, 'null'], format: date-time }
        revoked_at: { type: [string, 'null'], format: date-time }
        reason: { type: string }
        created_at: { $ref: '#/components/schemas/Instant' }
        tenant_id: { type: string, format: uuid }
    OwnCredits:
      type: object
      required: [object, balance, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        balance:
          description: What an account that pays ahead has left; `null` for others, and before it was first worked out.
          oneOf: [{ type: 'null' }, { $ref: '#/components/schemas/PrepaidBalance' }]
        data: { type: array, items: { $ref: '#/components/schemas/Credit' } }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'] }
        has_more: { type: boolean }
    PrepaidBalance:
      type: object
      required: [currency, balance_micros, looked_at]
      properties:
        currency: { $ref: '#/components/schemas/Currency' }
        balance_micros:
          description: Valid credits less what no invoice has charged yet, in millionths of the currency's unit; below zero where more was used.
          type: integer
          format: int64
        looked_at:
          description: When it was worked out. That is done within seconds of a change.
          $ref: '#/components/schemas/Instant'
    BilledRequest:
      type: object
      required: [object, id, request_id, kind, model, occurred_at, quantity]
      properties:
        object: { type: string, const: billed_request }
        id: { $ref: '#/components/schemas/RequestId' }
        request_id: { $ref: '#/components/schemas/RequestId' }
        kind: { type: string, enum: [usage, correction] }
        model: { type: string }
        occurred_at: { $ref: '#/components/schemas/Instant' }
        quantity: { type: integer, format: int64, description: In units of the line's meter. }
    BilledRequestList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data: { type: array, items: { $ref: '#/components/schemas/BilledRequest' } }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'] }
        has_more: { type: boolean }
    ExportFormat: { type: string, enum: [csv, jsonl, cloudevents, focus] }
    ExportGranularity: { type: string, enum: [entries, hour, day, month] }
    RequestId:
      type: string
      description: '`req_` and a UUID of version 7.'
      pattern: '^req_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
    KeyId:
      type: string
      description: The key's row, as `GET /admin/v1/tenants/{id}/keys` lists it. Not a secret.
      format: uuid
      pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    PriceVersion:
      type: string
      description: '`pv_` and a UUID: one immutable version of a tier.'
      pattern: '^pv_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    ModelName:
      type: string
      pattern: '^[a-z0-9][a-z0-9._-]{0,127}$'
      description: No two dots follow each other.
      examples: [iris]
    Instant:
      type: string
      format: date-time
      description: RFC 3339 with an offset and at most six digits of fraction. Answers use UTC.
    Day:
      type: string
      format: date
      description: A calendar day in the tenant's time zone.
    TimeZone:
      type: string
      description: An IANA time zone.
      examples: [Europe/Berlin]
    Currency:
      type: string
      description: ISO 4217.
      pattern: '^[A-Z]{3}$'
    Count:
      type: integer
      format: int64
      minimum: 0
    Micros:
      type: integer
      format: int64
      description: Millionths of the currency's unit.

    Service:
      type: object
      required: [name, version]
      properties:
        name: { type: string, const: weir }
        version: { type: string }

    JobReceipt:
      type: object
      required: [request_id, status]
      properties:
        request_id: { $ref: '#/components/schemas/RequestId' }
        status: { type: string, const: queued }
    Job:
      type: object
      required:
        [object, id, request_id, status, model, operation, priority, attempts, created_at, run_at, started_at, completed_at,
         expires_at, batch_id, custom_id, result, error]
      properties:
        object: { type: string, const: job }
        id: { $ref: '#/components/schemas/RequestId' }
        request_id: { $ref: '#/components/schemas/RequestId' }
        status: { type: string, enum: [queued, processing, completed, failed, cancelled, expired] }
        model: { $ref: '#/components/schemas/ModelName' }
        operation: { type: string, description: Which surface it is of, as `predict` or `chat.completions`. }
        priority: { type: integer, minimum: 0, maximum: 9 }
        attempts: { type: integer, minimum: 0, description: How often it was begun. }
        created_at: { $ref: '#/components/schemas/Instant' }
        run_at: { $ref: '#/components/schemas/Instant' }
        started_at: { oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }] }
        completed_at: { oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }] }
        expires_at:
          description: When the result is no longer kept.
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
        batch_id: { type: [string, 'null'], description: Of a job that came with others. }
        custom_id: { type: [string, 'null'] }
        result: { type: [object, 'null'], description: The answer as a synchronous request would have got it. }
        error:
          type: [object, 'null']
          required: [code, message]
          properties:
            code: { type: string }
            message: { type: string }
    ProofHash:
      type: string
      description: SHA-256.
      pattern: '^[0-9a-f]{64}$'
    SigningKeyName:
      type: string
      description: The first eight bytes of the SHA-256 of the public key.
      pattern: '^[0-9a-f]{16}$'
    SigningKey:
      type: object
      required: [id, object, algorithm, public_key, state, created_at, retired_at]
      properties:
        id: { $ref: '#/components/schemas/SigningKeyName' }
        object: { type: string, const: signing_key }
        algorithm: { type: string, const: ed25519 }
        public_key: { type: string, pattern: '^[0-9a-f]{64}$' }
        state: { type: string, enum: [active, retired, compromised] }
        created_at: { $ref: '#/components/schemas/Instant' }
        retired_at:
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
    SigningKeyList:
      type: object
      required: [object, data]
      properties:
        object: { type: string, const: list }
        data: { type: array, items: { $ref: '#/components/schemas/SigningKey' } }
    SignedHead:
      type: object
      required: [object, chain, tenant_id, seq, hash, signed_at, key_id, signature]
      properties:
        object: { type: string, const: head }
        chain: { type: string, const: ledger }
        tenant_id: { type: string, format: uuid }
        seq: { type: integer, minimum: 1 }
        hash: { $ref: '#/components/schemas/ProofHash' }
        signed_at: { $ref: '#/components/schemas/Instant' }
        key_id: { $ref: '#/components/schemas/SigningKeyName' }
        signature: { type: string, description: Ed25519., pattern: '^[0-9a-f]{128}$' }
    LedgerEntry:
      type: object
      required: [object, seq, entry_id, tenant_id, user_id, key_id, request_id, kind, model, model_version, price_version,
        lease_id, requests, input_tokens, cached_input_tokens, output_tokens, token_source, occurred_at, posted_at,
        served_input_tokens, served_output_tokens, hash]
      properties:
        object: { type: string, const: ledger_entry }
        seq: { type: integer, minimum: 1 }
        entry_id: { type: string, format: uuid }
        tenant_id: { type: string, format: uuid }
        user_id: { type: [string, 'null'], format: uuid }
        key_id: { type: string, format: uuid }
        request_id: { $ref: '#/components/schemas/RequestId' }
        kind: { type: string, enum: [usage, correction] }
        model: { type: string }
        model_version: { type: string }
        price_version: { type: string }
        lease_id: { type: [string, 'null'], format: uuid }
        requests: { type: integer }
        input_tokens: { type: integer }
        cached_input_tokens: { type: integer }
        output_tokens: { type: integer }
        token_source: { type: string }
        occurred_at: { $ref: '#/components/schemas/Instant' }
        posted_at: { $ref: '#/components/schemas/Instant' }
        served_input_tokens: { type: integer, description: What the answer had cost a worker where it came from the cache. }
        served_output_tokens: { type: integer }
        hash: { $ref: '#/components/schemas/ProofHash' }
    LedgerEntryList:
      type: object
      required: [object, data, heads, previous_hash, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data: { type: array, items: { $ref: '#/components/schemas/LedgerEntry' } }
        heads: { type: array, items: { $ref: '#/components/schemas/SignedHead' } }
        previous_hash: { $ref: '#/components/schemas/ProofHash' }
        first_id: { type: [string, 'null'], description: A sequence number. }
        last_id: { type: [string, 'null'], description: To be sent as `after` for the next page. }
        has_more: { type: boolean }
    LedgerProof:
      type: object
      required: [object, entry, previous_hash, following, head]
      properties:
        object: { type: string, const: ledger_proof }
        entry: { $ref: '#/components/schemas/LedgerEntry' }
        previous_hash: { $ref: '#/components/schemas/ProofHash' }
        following:
          type: array
          description: The leaves of the entries behind it, up to the head.
          items: { $ref: '#/components/schemas/ProofHash' }
        head: { $ref: '#/components/schemas/SignedHead' }
    PlacedAuditEntry:
      type: object
      required: [id, object, at, actor, action, subject_type, subject_id, before, after, seq, hash]
      properties:
        id: { type: string, format: uuid }
        object: { type: string, const: audit_entry }
        at: { $ref: '#/components/schemas/Instant' }
        actor: { type: string }
        action: { type: string }
        subject_type: { type: string }
        subject_id: { type: string }
        before: { type: [string, 'null'], description: JSON, as a text. }
        after: { type: [string, 'null'], description: JSON, as a text. }
        seq:
          type: [integer, 'null']
          description: The place in the chain of the installation; null until it is sealed.
        hash:
          oneOf: [{ $ref: '#/components/schemas/ProofHash' }, { type: 'null' }]
    PlacedAuditList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data: { type: array, items: { $ref: '#/components/schemas/PlacedAuditEntry' } }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'] }
        has_more: { type: boolean }
    Liveness:
      type: object
      required: [alive]
      properties:
        alive: { type: boolean, const: true }

    Health:
      type: object
      required: [status, postgres, redis, models]
      properties:
        status: { type: string, enum: [healthy, degraded] }
        postgres: { type: string, enum: [up, down] }
        redis: { type: string, enum: [up, down, not_configured] }
        models:
          type: object
          description: The models that have a route.
          additionalProperties: { type: string, enum: [ready, unavailable] }

    Readiness:
      type: object
      required: [ready, degraded, checks]
      properties:
        ready: { type: boolean }
        degraded:
          type: array
          description: >-
            The checks that are not `ok`, without those that are not configured; and `model:NAME` for each model that has
            workers, none of which is healthy.
          uniqueItems: true
          items:
            anyOf:
              - { type: string, enum: [postgres, redis, rate_limits, cache, settlement, routes] }
              - { type: string, pattern: '^model:[a-z0-9]' }
        checks:
          type: object
          required: [postgres, redis, rate_limits, cache, settlement, routes]
          properties:
            postgres: { $ref: '#/components/schemas/CheckResult' }
            redis: { $ref: '#/components/schemas/CheckResult' }
            rate_limits:
              description: >-
                Whether rate limits hold over all gateways, or each gateway enforces them on its own: where there is no
                Redis, or while it is away.
              type: string
              enum: [ok, in_process]
            cache:
              description: Whether cached predictions are shared by all gateways, or each gateway has its own.
              type: string
              enum: [ok, in_process]
            settlement: { $ref: '#/components/schemas/CheckResult' }
            routes: { $ref: '#/components/schemas/CheckResult' }
    CheckResult:
      type: string
      enum: [ok, unavailable, not_configured]

    OpenInferenceError:
      type: object
      additionalProperties: false
      required: [error]
      properties:
        error: { type: string }
    OpenInferenceServer:
      type: object
      required: [name, version, extensions]
      properties:
        name: { type: string }
        version: { type: string }
        extensions: { type: array, items: { type: string } }
    OpenInferenceLive:
      type: object
      required: [live]
      properties:
        live: { type: boolean }
    OpenInferenceReady:
      type: object
      required: [live, ready]
      properties:
        live: { type: boolean }
        ready: { type: boolean }
    OpenInferenceModelReady:
      type: object
      required: [name, ready]
      properties:
        name: { type: string }
        ready: { type: boolean }
    OpenInferenceModel:
      type: object
      required: [name, versions, platform, inputs, outputs]
      properties:
        name: { type: string }
        versions: { type: array, items: { type: string } }
        platform: { type: string }
        inputs:
          description: What the registry says; empty where it says nothing.
          type: array
          items: { $ref: '#/components/schemas/OpenInferenceTensorMetadata' }
        outputs:
          type: array
          items: { $ref: '#/components/schemas/OpenInferenceTensorMetadata' }
    OpenInferenceTensorMetadata:
      type: object
      required: [name, datatype, shape]
      properties:
        name: { type: string }
        datatype: { $ref: '#/components/schemas/TensorDatatype' }
        shape: { type: array, items: { type: integer, minimum: -1 } }
    OpenInferenceStatistics:
      type: object
      required: [model_stats]
      properties:
        model_stats:
          type: array
          items:
            type: object
            required: [name, version, last_inference, inference_count, execution_count, inference_stats, batch_stats]
            properties:
              name: { type: string }
              version: { type: string }
              last_inference: { type: integer, description: Milliseconds since 1970; 0 where there was none. }
              inference_count: { type: integer, description: Rows that workers answered. }
              execution_count: { type: integer, description: Requests that workers answered. }
              inference_stats:
                type: object
                additionalProperties:
                  type: object
                  required: [count, ns]
                  properties:
                    count: { type: integer }
                    ns: { type: integer }
              batch_stats: { type: array, maxItems: 0 }
    OpenInferenceIndexRequest:
      type: object
      additionalProperties: false
      properties:
        ready: { type: boolean }
    OpenInferenceIndex:
      type: array
      items:
        type: object
        required: [name, version, state, reason]
        properties:
          name: { type: string }
          version: { type: string }
          state: { type: string, enum: [READY, UNAVAILABLE] }
          reason: { type: string }
    TensorDatatype:
      type: string
      enum: [BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES]
    TensorParameters:
      type: object
      additionalProperties: { type: [string, number, boolean] }
    Tensor:
      type: object
      additionalProperties: false
      required: [name, shape, datatype]
      properties:
        name: { type: string, minLength: 1 }
        shape:
          type: array
          maxItems: 32
          items: { type: integer, minimum: 0 }
        datatype: { $ref: '#/components/schemas/TensorDatatype' }
        parameters: { $ref: '#/components/schemas/TensorParameters' }
        data:
          description: As many elements as the product of the shape, flat or nested as the shape is. Whole numbers of 64 bits are exact.
          type: array
    InferRequest:
      type: object
      additionalProperties: false
      required: [inputs]
      properties:
        id: { type: [string, 'null'], maxLength: 256, description: Comes back with the answer. }
        model_name: { type: string, description: 'The model of the path, if anything.' }
        model_version: { type: [string, 'null'], description: 'The version of the path, if anything.' }
        parameters:
          oneOf: [{ type: 'null' }, { $ref: '#/components/schemas/TensorParameters' }]
        inputs:
          type: array
          minItems: 1
          maxItems: 256
          items: { $ref: '#/components/schemas/Tensor' }
        outputs:
          description: Those that are wanted; all where none is named.
          type: [array, 'null']
          maxItems: 256
          items:
            type: object
            required: [name]
            properties:
              name: { type: string, minLength: 1 }
              parameters: { $ref: '#/components/schemas/TensorParameters' }
    InferResponse:
      type: object
      required: [model_name, model_version, outputs]
      properties:
        model_name: { type: string }
        model_version: { type: string }
        id: { type: string }
        parameters: { $ref: '#/components/schemas/TensorParameters' }
        outputs:
          type: array
          items: { $ref: '#/components/schemas/Tensor' }
    GenerateRequest:
      type: object
      additionalProperties: false
      required: [text_input]
      properties:
        id: { type: [string, 'null'], maxLength: 256, description: Comes back with the answer. }
        text_input: { type: string }
        parameters:
          type: [object, 'null']
          description: '`max_tokens`, `details` and, as the worker knows them, `temperature`, `top_p`, `stop` and others.'
          properties:
            max_tokens: { type: integer, minimum: 1 }
            details: { type: boolean, description: Whether to say why the text ended. }
            stop: { type: [string, array], items: { type: string } }
          additionalProperties: { type: [string, number, boolean] }
    GenerateResponse:
      type: object
      required: [model_name, model_version, text_output]
      properties:
        model_name: { type: string }
        model_version: { type: string }
        id: { type: string }
        text_output: { type: string }
        details: { type: object }
    OpenAIError:
      type: object
      required: [error]
      properties:
        error:
          type: object
          required: [message, type, param, code]
          properties:
            message: { type: string }
            type: { type: string }
            param: { type: [string, 'null'] }
            code: { type: [string, 'null'] }
    OpenAIModel:
      type: object
      required: [id, object, created, owned_by]
      properties:
        id: { type: string }
        object: { type: string, const: model }
        created: { type: integer, description: Seconds since 1970; 0 where it is not known. }
        owned_by: { type: string }
    OpenAIModelList:
      type: object
      required: [object, data]
      properties:
        object: { type: string, const: list }
        data: { type: array, items: { $ref: '#/components/schemas/OpenAIModel' } }
    OpenAIUsage:
      type: object
      properties:
        prompt_tokens: { type: integer, format: int64, minimum: 0 }
        completion_tokens: { type: integer, format: int64, minimum: 0 }
        total_tokens: { type: integer, format: int64, minimum: 0 }
        prompt_tokens_details:
          type: [object, 'null']
          properties:
            cached_tokens: { type: integer, format: int64, minimum: 0 }
    GenerationBounds:
      type: object
      required: [model]
      properties:
        model: { type: string }
        stream: { type: [boolean, 'null'] }
        stream_options:
          type: [object, 'null']
          properties:
            include_usage: { type: boolean }
        max_tokens: { type: [integer, 'null'], minimum: 1 }
        max_completion_tokens: { type: [integer, 'null'], minimum: 1 }
        n: { type: [integer, 'null'], minimum: 1, maximum: 128 }
        temperature: { type: [number, 'null'] }
        user: { type: string }
    ChatCompletionRequest:
      description: Further fields go to the worker as they are.
      additionalProperties: true
      allOf:
        - { $ref: '#/components/schemas/GenerationBounds' }
        - type: object
          required: [messages]
          properties:
            messages: { type: array, minItems: 1, items: { type: object } }
    CompletionRequest:
      description: Further fields go to the worker as they are.
      additionalProperties: true
      allOf:
        - { $ref: '#/components/schemas/GenerationBounds' }
        - type: object
          required: [prompt]
          properties:
            prompt: { type: [string, array] }
            best_of: { type: [integer, 'null'], minimum: 1, maximum: 128 }
    EmbeddingRequest:
      type: object
      description: Further fields go to the worker as they are.
      additionalProperties: true
      required: [model, input]
      properties:
        model: { type: string }
        input:
          type: [string, array]
          description: A text, a list of texts, a list of tokens, or a list of those; at most 2,048 inputs.
        encoding_format: { type: string, enum: [float, base64] }
        dimensions: { type: integer, minimum: 1 }
        user: { type: string }
    ChatCompletion:
      type: object
      required: [choices]
      properties:
        id: { type: string }
        object: { type: string }
        created: { type: integer }
        model: { type: string }
        choices: { type: array, items: { type: object } }
        usage: { $ref: '#/components/schemas/OpenAIUsage' }
    Completion:
      type: object
      required: [choices]
      properties:
        id: { type: string }
        object: { type: string }
        created: { type: integer }
        model: { type: string }
        choices: { type: array, items: { type: object } }
        usage: { $ref: '#/components/schemas/OpenAIUsage' }
    EmbeddingList:
      type: object
      required: [data]
      properties:
        object: { type: string }
        model: { type: string }
        data: { type: array, items: { type: object } }
        usage: { $ref: '#/components/schemas/OpenAIUsage' }
    PredictRequest:
      type: object
      description: One input row in `features`, or several in `inputs`; exactly one of the two. Keys may not occur
        twice. A model whose requests are divided among versions may take one more field, which the operator names, with
        a string or an integer; requests with the same value there get the same version.
      required: [model]
      additionalProperties: false
      properties:
        model: { $ref: '#/components/schemas/ModelName' }
        version:
          type: string
          description: >-
            The version to ask, or `latest` for the greatest one in service by Semantic Versioning. By default the one
            that the operator has chosen. No two dots follow each other.
          minLength: 1
          maxLength: 128
          pattern: '^[A-Za-z0-9._+-]+$'
        features: { $ref: '#/components/schemas/Row' }
        inputs:
          type: array
          description: Rows of equal length.
          minItems: 1
          maxItems: 4096
          items: { $ref: '#/components/schemas/Row' }
      oneOf:
        - required: [features]
        - required: [inputs]
    Row:
      type: array
      description: Finite numbers, as many as the model takes.
      minItems: 1
      maxItems: 4096
      items: { type: number }

    PredictResponse:
      type: object
      required: [request_id, model, version, prediction, cached, usage]
      properties:
        request_id: { $ref: '#/components/schemas/RequestId' }
        model: { $ref: '#/components/schemas/ModelName' }
        version: { type: string }
        prediction:
          description: What the model says; any JSON value. For `inputs`, one value for each row.
        probabilities:
          description: Where the model gives them. For `inputs`, one entry for each row.
          type: [array, object]
        cached: { type: boolean, description: Whether the answer came from a cache instead of a worker. }
        usage: { $ref: '#/components/schemas/Usage' }

    Usage:
      type: object
      required: [input_tokens, cached_input_tokens, output_tokens, source]
      properties:
        input_tokens: { $ref: '#/components/schemas/Count' }
        cached_input_tokens:
          type: integer
          format: int64
          minimum: 0
          description: The part of `input_tokens` that the worker had in its own cache.
        output_tokens: { $ref: '#/components/schemas/Count' }
        requests:
          type: integer
          minimum: 0
          maximum: 1
          description: Of a request of the history; 0 for a hit of the cache where the tier says that hits are free.
        source:
          type: string
          description: Who counted.
          enum: [worker, counted, fixed, estimated, cache]

    UsageTotals:
      type: object
      required: [requests, input_tokens, cached_input_tokens, output_tokens, cost_micros]
      properties:
        requests: { $ref: '#/components/schemas/Count' }
        input_tokens: { $ref: '#/components/schemas/Count' }
        cached_input_tokens: { $ref: '#/components/schemas/Count' }
        output_tokens: { $ref: '#/components/schemas/Count' }
        cost_micros: { $ref: '#/components/schemas/Micros' }
    UsageRow:
      type: object
      description: Which of the groups there are follows from `group_by`; usage of a key that is nobody's has no `user_id`.
      required: [requests, input_tokens, cached_input_tokens, output_tokens, cost_micros]
      properties:
        hour: { $ref: '#/components/schemas/Instant' }
        day: { $ref: '#/components/schemas/Day' }
        month: { type: string, pattern: '^\d{4}-\d{2}$' }
        tag: { type: string }
        tier: { type: string }
        model: { $ref: '#/components/schemas/ModelName' }
        user_id: { type: string }
        key_id: { $ref: '#/components/schemas/KeyId' }
        requests: { $ref: '#/components/schemas/Count' }
        input_tokens: { $ref: '#/components/schemas/Count' }
        cached_input_tokens: { $ref: '#/components/schemas/Count' }
        output_tokens: { $ref: '#/components/schemas/Count' }
        cost_micros: { $ref: '#/components/schemas/Micros' }
    OfferedTierVersion:
      type: object
      required: [id, object, tier, number, state, currency, base_fee_micros, minimum_commitment_micros, included_requests,
        included_tokens, trial_days, cache_hit_token_percent, cache_hit_request, failed_request, result_ttl_seconds, prices,
        multipliers, quotas, rate_limits]
      properties:
        id: { type: string, description: The price version. }
        object: { type: string, const: tier_version }
        tier: { type: string }
        number: { type: integer, minimum: 1 }
        state: { type: string, enum: [published] }
        currency: { type: string, pattern: '^[A-Z]{3}$' }
        base_fee_micros: { type: integer, format: int64, description: A month's fee in millionths of the currency's unit. }
        minimum_commitment_micros: { type: integer, format: int64, description: The least that a month costs. }
        included_requests: { type: integer, format: int64, description: Requests of a month before prices begin. }
        included_tokens: { type: integer, format: int64, description: Tokens of a month before prices begin. }
        trial_days: { type: integer }
        effective_at: { type: [string, 'null'], format: date-time }
        cache_hit_token_percent: { type: integer, minimum: 0, maximum: 100 }
        cache_hit_request:
          type: string
          enum: [charged, free]
          description: Whether an answer from the cache counts as a request.
        failed_request:
          type: string
          enum: [charged, free]
          description: >-
            Whether a request whose input the model's worker refuses costs one request. Whatever else fails is free in every tier.
        result_ttl_seconds: { type: integer }
        stream_leave: { type: string, enum: [cancel, drain] }
        prices:
          type: array
          items:
            type: object
            required: [meter, model, price_model, unit_price, package_size, bands]
            properties:
              meter: { type: string, enum: [request, input_token, cached_input_token, output_token] }
              model: { type: string, description: A model's name, or `*` for those without a price of their own. }
              price_model: { type: string, enum: [flat, graduated, volume, package] }
              unit_price: { type: [string, 'null'], description: Of one unit, or of a package. }
              package_size: { type: [integer, 'null'], format: int64 }
              bands:
                type: array
                items:
                  type: object
                  required: [up_to, unit_price]
                  properties:
                    up_to: { type: [integer, 'null'], format: int64, description: The band's last unit; null for the last band. }
                    unit_price: { type: string }
        multipliers:
          type: array
          description: As how many units a unit of a model counts.
          items:
            type: object
            required: [meter, model, multiplier]
            properties:
              meter: { type: string, enum: [input_token, cached_input_token, output_token] }
              model: { type: string }
              multiplier: { type: string }
        quotas:
          type: array
          items:
            type: object
            required: [unit, frequency, amount, mode]
            properties:
              unit: { type: string }
              frequency: { type: string }
              amount: { type: integer, format: int64 }
              mode: { type: string }
        rate_limits:
          type: array
          items:
            type: object
            required: [scope, unit, amount, burst]
            properties:
              scope: { type: string }
              unit: { type: string }
              amount: { type: [integer, 'null'], format: int64 }
              burst: { type: [integer, 'null'], format: int64 }
    OfferedTierList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data:
          type: array
          items:
            type: object
            required: [code, object, name, version]
            properties:
              code: { type: string }
              object: { type: string, const: tier }
              name: { type: string }
              tenant_id: { type: [string, 'null'], description: Set where the tier was made for this tenant alone. }
              version: { $ref: '#/components/schemas/OfferedTierVersion' }
        first_id: { type: 'null' }
        last_id: { type: 'null' }
        has_more: { type: boolean, const: false }
    TierChoice:
      type: [object, 'null']
      required: [tier, version]
      properties:
        tier: { type: string }
        version: { type: integer }
    UnseenTerms:
      type: array
      description: >-
        Terms that were others when the usage was charged, where what would have been charged is not known. `stream_leave` stands
        where streams were cancelled that would have been drained, or where it is left to the model. `cache_hit_token_percent`
        stands where hits were free, so that it is not known how much of their input was in the worker's own cache, and that has another price. `failed_request`
        stands where inputs that a worker refuses were charged otherwise: which there were is not in the ledger.
      items: { type: string, enum: [cache_hit_token_percent, stream_leave, failed_request] }
    TierAnalysis:
      type: object
      required: [object, tenant_id, time_zone, currency, periods, actual_total_micros, current, recommended, saving_micros,
        highest_monthly_tokens, simple_rule, options, unrateable]
      properties:
        object: { type: string, const: tier_analysis }
        tenant_id: { type: string }
        time_zone: { type: string }
        currency: { type: [string, 'null'] }
        periods:
          type: array
          items:
            type: object
            required: [id, start, end]
            properties:
              id: { type: string }
              start: { type: string, format: date-time }
              end: { type: string, format: date-time }
        actual_total_micros: { type: integer, format: int64, description: What the periods cost at the tiers that the tenant was on. }
        current: { $ref: '#/components/schemas/TierChoice' }
        recommended: { $ref: '#/components/schemas/TierChoice' }
        saving_micros:
          type: [integer, 'null']
          format: int64
          description: What the recommended tier would have cost less than the current one.
        highest_monthly_tokens: { type: integer, format: int64 }
        simple_rule:
          type: string
          enum: [basic, standard, premium]
          description: The rule of thumb, by the highest month alone. Below 100,000 tokens basic, below 1,000,000 standard.
        options:
          type: array
          items:
            type: object
            required: [tier, version, costs_micros, total_micros, feasible, limits_proven, not_seen, rerated_hits, refused_by,
              rate_overruns]
            properties:
              tier: { type: string }
              version: { type: integer }
              costs_micros:
                type: array
                description: In the order of the periods.
                items: { type: integer, format: int64 }
              total_micros: { type: integer, format: int64 }
              feasible:
                type: boolean
                description: >-
                  Whether no hard quota would have refused any of the usage, and no rate limit for certain.
              limits_proven:
                type: boolean
                description: >-
                  Whether that is known of all of its limits. Of a rate limit it is not where it depends on when in their minutes
                  the requests came; of keys' limits, only where all keys together kept them; and neither of them, nor a hard quota of
                  a minute, of more than thirteen months ago.
              not_seen: { $ref: '#/components/schemas/UnseenTerms' }
              rerated_hits:
                type: integer
                format: int64
                description: >-
                  Hits of the cache whose tokens were charged anew, by this tier's percentage. Of each meter that is at most a token for
                  each of them more than it would have been, and exact where the percentage is 0 or 100.
              refused_by:
                type: array
                items:
                  type: object
                  required: [unit, frequency, amount, used]
                  properties:
                    unit: { type: string }
                    frequency: { type: string }
                    amount: { type: integer, format: int64 }
                    used: { type: integer, format: int64 }
              rate_overruns:
                type: array
                description: Rate limits that would have refused something, whenever in their minutes the requests came.
                items:
                  type: object
                  required: [scope, unit, amount, burst, minute, used]
                  properties:
                    scope: { type: string, enum: [tenant, key] }
                    unit: { type: string, enum: [requests, tokens, concurrency] }
                    amount: { type: integer, format: int64, description: 'A minute, or at once of concurrency.' }
                    burst: { type: [integer, 'null'], format: int64 }
                    minute: { type: string, format: date-time, description: The first minute in which it would have. }
                    used:
                      type: integer
                      format: int64
                      description: In that minute, at least. Of concurrency what was under way on average, rounded up.
        unrateable:
          type: [string, 'null']
          enum: [mixed_currencies, amount_too_large, unknown_tier_version, null]
          description: Why there is nothing of all this.
    UsageReport:
      type: object
      required: [object, start, end, time_zone, currency, data, has_more]
      properties:
        object: { type: string, const: list }
        start: { $ref: '#/components/schemas/Instant' }
        end: { $ref: '#/components/schemas/Instant' }
        time_zone: { $ref: '#/components/schemas/TimeZone' }
        currency:
          description: Null where nothing was used and no tier names one.
          oneOf: [{ $ref: '#/components/schemas/Currency' }, { type: 'null' }]
        data:
          type: array
          items: { $ref: '#/components/schemas/UsageRow' }
        total: { $ref: '#/components/schemas/UsageTotals' }
        has_more: { type: boolean }

    UsageSummary:
      type: object
      required: [object, period_id, period_start, period_end, at, time_zone, currency, so_far, included, forecast]
      properties:
        object: { type: string, const: usage.summary }
        period_id: { type: string, example: 2026-03@Europe/Berlin }
        period_start: { $ref: '#/components/schemas/Instant' }
        period_end: { $ref: '#/components/schemas/Instant' }
        at: { $ref: '#/components/schemas/Instant' }
        time_zone: { $ref: '#/components/schemas/TimeZone' }
        currency: { type: [string, 'null'] }
        so_far: { $ref: '#/components/schemas/PeriodQuantities' }
        included:
          type: array
          items:
            type: object
            required: [unit, amount, used, left]
            properties:
              unit: { type: string, enum: [requests, tokens] }
              amount: { type: integer, format: int64 }
              used: { type: integer, format: int64 }
              left: { type: integer, format: int64 }
        forecast:
          type: object
          required:
            [
              at_end, method, compared_periods, request_error_basis_points, token_error_basis_points, cost_error_basis_points,
            ]
          properties:
            at_end: { $ref: '#/components/schemas/PeriodQuantities' }
            method: { type: string, const: same_hour_of_week }
            compared_periods: { type: integer, minimum: 0, maximum: 3 }
            request_error_basis_points: { type: [integer, 'null'], format: int64 }
            token_error_basis_points: { type: [integer, 'null'], format: int64 }
            cost_error_basis_points: { type: [integer, 'null'], format: int64 }
    PeriodQuantities:
      type: object
      required: [requests, input_tokens, cached_input_tokens, output_tokens, cost_micros]
      properties:
        requests: { type: integer, format: int64 }
        input_tokens: { type: integer, format: int64 }
        cached_input_tokens: { type: integer, format: int64 }
        output_tokens: { type: integer, format: int64 }
        cost_micros: { type: [integer, 'null'], format: int64 }
    OrganizationUsagePage:
      type: object
      required: [object, data, has_more, next_page]
      properties:
        object: { type: string, const: page }
        has_more: { type: boolean }
        next_page: { type: [string, 'null'] }
        data:
          type: array
          items:
            type: object
            required: [object, start_time, end_time, results]
            properties:
              object: { type: string, const: bucket }
              start_time: { type: integer, format: int64 }
              end_time: { type: integer, format: int64 }
              results:
                type: array
                items:
                  type: object
                  required: [object, input_tokens, output_tokens, input_cached_tokens, num_model_requests, user_id, api_key_id, model]
                  properties:
                    object: { type: string, const: organization.usage.completions.result }
                    project_id: { type: 'null' }
                    input_tokens: { type: integer, format: int64 }
                    output_tokens: { type: integer, format: int64 }
                    input_cached_tokens: { type: integer, format: int64 }
                    input_audio_tokens: { type: integer, format: int64 }
                    output_audio_tokens: { type: integer, format: int64 }
                    num_model_requests: { type: integer, format: int64 }
                    user_id: { type: [string, 'null'] }
                    api_key_id: { type: [string, 'null'] }
                    model: { type: [string, 'null'] }
                    batch: { type: 'null' }
    OrganizationCostsPage:
      type: object
      required: [object, data, has_more, next_page]
      properties:
        object: { type: string, const: page }
        has_more: { type: boolean }
        next_page: { type: [string, 'null'] }
        data:
          type: array
          items:
            type: object
            required: [object, start_time, end_time, results]
            properties:
              object: { type: string, const: bucket }
              start_time: { type: integer, format: int64 }
              end_time: { type: integer, format: int64 }
              results:
                type: array
                items:
                  type: object
                  required: [object, amount, line_item]
                  properties:
                    object: { type: string, const: organization.costs.result }
                    project_id: { type: 'null' }
                    amount:
                      type: object
                      required: [value, currency, amount_micros]
                      properties:
                        value: { type: number, description: A decimal; take `amount_micros` where your numbers are binary fractions. }
                        currency: { type: string }
                        amount_micros: { type: integer, format: int64, description: 'The same in millionths, exactly.' }
                    line_item: { type: [string, 'null'] }

    QuotaUnit: { type: string, enum: [requests, tokens] }
    Frequency: { type: string, enum: [minute, hour, day, week, month, quarter, year, none] }
    QuotaMode:
      type: string
      description: >-
        `hard` is refused at the limit. `soft` is only counted. `pay_as_you_go` goes on beyond the limit, which is what the
        price includes; what lies beyond it is overage.
      enum: [hard, soft, pay_as_you_go]
    QuotaLevel:
      type: string
      description: Whose use is counted. A request has to pass the quotas of its key, of the key's user and of the tenant.
      enum: [tenant, user, key]
    QuotaAlignment:
      type: string
      description: >-
        Where periods begin: `calendar` at the edges of the calendar in the tenant's time zone, `subscription` at the day and
        time at which the tenant's first subscription with such a quota began.
      enum: [calendar, subscription]
    QuotaState:
      type: object
      required:
        [
          policy, level, unit, frequency, alignment, mode, limit, settled, held, available, period_id, period_start,
          time_zone, thresholds,
        ]
      properties:
        policy:
          type: string
          description: Unit and frequency; for a quota of a user or a key with the level before them.
          examples: [tokens-month, key-requests-day]
        level: { $ref: '#/components/schemas/QuotaLevel' }
        unit: { $ref: '#/components/schemas/QuotaUnit' }
        frequency: { $ref: '#/components/schemas/Frequency' }
        alignment: { $ref: '#/components/schemas/QuotaAlignment' }
        mode: { $ref: '#/components/schemas/QuotaMode' }
        limit: { $ref: '#/components/schemas/Count' }
        settled: { $ref: '#/components/schemas/Count' }
        held: { $ref: '#/components/schemas/Count' }
        available:
          type: integer
          format: int64
          minimum: 0
          description: >-
            `limit - settled - held`, of one instant. Never below zero, as it would be where the limit was lowered below
            what was used.
        period_id: { type: string, examples: [2026-03@Europe/Berlin] }
        period_start: { $ref: '#/components/schemas/Instant' }
        period_end:
          description: Left out for the frequency `none`, whose period has no end.
          $ref: '#/components/schemas/Instant'
        time_zone: { $ref: '#/components/schemas/TimeZone' }
        thresholds:
          type: array
          description: The percentages of the limit at which an event is raised, ascending.
          items:
            type: object
            required: [percent]
            properties:
              percent: { type: integer, minimum: 1, maximum: 1000 }
              crossed_at:
                description: When it was seen to be crossed in this period, within a few seconds of it. Left out where it was not.
                $ref: '#/components/schemas/Instant'
        included:
          description: What the price includes. Of `pay_as_you_go` alone.
          $ref: '#/components/schemas/Count'
        overage:
          description: What was used beyond that. Of `pay_as_you_go` alone.
          $ref: '#/components/schemas/Count'
        over:
          description: What was used beyond the limit. Of `soft` alone.
          $ref: '#/components/schemas/Count'
    QuotaReport:
      type: object
      required: [object, data, rate_limits]
      properties:
        object: { type: string, const: list }
        data:
          type: array
          items: { $ref: '#/components/schemas/QuotaState' }
        rate_limits:
          type: array
          items: { $ref: '#/components/schemas/RateLimitState' }

    RateLimitState:
      type: object
      required: [policy, scope, unit, limit, remaining, mode]
      properties:
        policy: { type: string, description: The name in `RateLimit-Policy`. }
        scope: { type: string, enum: [tenant, key], description: Whether all keys of the tenant share it. }
        unit: { type: string, enum: [requests, tokens, concurrency] }
        limit:
          type: integer
          format: int64
          minimum: 0
          description: Units per window; of concurrency, requests under way at once.
        burst:
          type: integer
          format: int64
          minimum: 0
          description: The most that may come at once after a pause. Not for concurrency.
        window_seconds: { type: integer, format: int64, description: Not for concurrency. }
        remaining: { type: integer, format: int64, minimum: 0 }
        reset_seconds:
          type: integer
          format: int64
          minimum: 0
          description: Until the whole burst is there again. Not for concurrency.
        mode:
          type: string
          enum: [exact, in_process]
          description: >-
            `exact`, all gateways count together; `in_process`, each gateway counts for itself, because there is no Redis
            or it is away.

    RequestExplanation:
      type: object
      required: [object, request_id, status, admission, failure, charge, refusal]
      properties:
        object: { type: string, const: request_explanation }
        request_id: { $ref: '#/components/schemas/RequestId' }
        status:
          description: As in the list of requests, or `refused` for one that a quota or a rate limit refused.
          type: string
          enum: [queued, processing, completed, failed, cancelled, expired, refused]
        admission:
          description: What admitted it; null where nothing was held.
          oneOf:
            - type: object
              required: [held_tokens, lease_id, lease_kept, policies]
              properties:
                held_tokens:
                  type: integer
                  format: int64
                  minimum: 0
                  description: The most tokens that it could have been charged.
                lease_id: { type: [string, 'null'], description: The lease that it was charged to. }
                lease_kept:
                  type: boolean
                  description: >-
                    False where the lease's record has been removed, two days after it was closed unless the installation
                    says otherwise. `policies` is empty then; the charge is told for ever.
                policies:
                  type: array
                  items: { $ref: '#/components/schemas/AdmittingPolicy' }
            - type: 'null'
        failure:
          description: >-
            Why it failed or was blocked; null for one that succeeded. It is charged only where the model's worker refused the input
            and the tier says so.
          oneOf:
            - type: object
              required: [code, message, charged]
              properties:
                code: { type: string }
                message: { type: string }
                charged: { type: boolean }
            - type: 'null'
        charge:
          description: How the charge comes about; null for a request that was not charged.
          oneOf:
            - type: object
              required: [reason, price_version, currency, token_source, lines, exact_amount, cost_micros]
              properties:
                reason:
                  type: string
                  enum: [answer, cache_hit, failed_request]
                  description: >-
                    What it is for. `failed_request`: the model's worker refused the input.
                price_version: { $ref: '#/components/schemas/PriceVersion' }
                currency:
                  oneOf: [{ $ref: '#/components/schemas/Currency' }, { type: 'null' }]
                token_source: { type: string, enum: [worker, counted, fixed, estimated, cache] }
                lines:
                  type: array
                  items: { $ref: '#/components/schemas/ChargeLine' }
                exact_amount: { type: [string, 'null'], description: The sum before its one rounding. }
                cost_micros: { type: [integer, 'null'], format: int64 }
            - type: 'null'
        refusal:
          description: >-
            The numbers that refused it; null for a request that was not refused. Kept for two days unless the installation
            says otherwise, and of many refusals in one second only of the first ones.
          oneOf:
            - { $ref: '#/components/schemas/RefusalNumbers' }
            - type: 'null'
    RefusalNumbers:
      type: object
      required: [refused_at, model, policy, unit, limit, remaining, requested]
      properties:
        refused_at: { $ref: '#/components/schemas/Instant' }
        model: { $ref: '#/components/schemas/ModelName' }
        policy: { type: string, examples: [tokens-month, key-rpm] }
        unit: { type: string, enum: [requests, tokens, concurrency] }
        limit: { type: integer, format: int64 }
        settled: { type: integer, format: int64, description: Of a quota alone. }
        held: { type: integer, format: int64, description: Of a quota alone. }
        remaining: { type: integer, format: int64 }
        requested: { type: integer, format: int64, description: The most that it could have used. }
        retry_after_ms: { type: integer, format: int64, description: Left out where waiting did not help. }
        period_start:
          description: Of a quota that begins anew.
          $ref: '#/components/schemas/Instant'
        period_end:
          description: Of a quota that begins anew.
          $ref: '#/components/schemas/Instant'
    AdmittingPolicy:
      type: object
      required: [policy, unit, mode, limit, granted, period_start]
      properties:
        policy: { type: string }
        unit: { type: string, enum: [requests, tokens] }
        mode: { $ref: '#/components/schemas/QuotaMode' }
        limit: { type: integer, format: int64, description: As it is now. }
        granted:
          type: integer
          format: int64
          description: What the gateway had taken for this request and others together.
        period_start: { $ref: '#/components/schemas/Instant' }
        period_end: { $ref: '#/components/schemas/Instant' }
        part:
          type: string
          enum: [included, overage]
          description: >-
            Whether the request lies within the limit or beyond it. Of modes that go on beyond the limit, and left out where
            it cannot be told: where use has passed the limit and the request may lie on either side.
    ChargeLine:
      type: object
      required: [meter, quantity, unit_price, amount]
      properties:
        meter: { type: string, enum: [request, input_token, cached_input_token, output_token] }
        quantity: { type: integer, format: int64 }
        unit_price: { type: string, pattern: '^[0-9]+\.[0-9]{12}$' }
        amount: { type: string, pattern: '^-?[0-9]+\.[0-9]{12}$', description: Quantity times unit price, exact. }
    Quote:
      type: object
      required:
        [object, model, version, rows, tokens_at_most, price_version, unit_prices, admission, policies]
      properties:
        object: { type: string, const: quote }
        model: { $ref: '#/components/schemas/ModelName' }
        version: { type: string }
        rows: { type: integer, minimum: 1 }
        tokens_at_most: { type: integer, format: int64, minimum: 0 }
        tokens_expected:
          type: integer
          format: int64
          minimum: 0
          description: >-
            By what the model's workers reported for requests of this size. Left out before they have reported anything.
        price_version: { $ref: '#/components/schemas/PriceVersion' }
        currency: { $ref: '#/components/schemas/Currency' }
        unit_prices:
          type: object
          additionalProperties: { type: string, pattern: '^[0-9]+\.[0-9]{12}$' }
        cost_micros_at_most: { type: integer, format: int64, minimum: 0 }
        admission: { $ref: '#/components/schemas/QuotaRoom' }
        policies:
          type: array
          items:
            type: object
            required: [policy, unit, mode, limit, settled, held, available, requested, room]
            properties:
              policy: { type: string }
              unit: { type: string, enum: [requests, tokens] }
              mode: { $ref: '#/components/schemas/QuotaMode' }
              limit: { type: integer, format: int64 }
              settled: { type: integer, format: int64 }
              held: { type: integer, format: int64 }
              available: { type: integer, format: int64 }
              requested: { type: integer, format: int64 }
              room: { $ref: '#/components/schemas/QuotaRoom' }
              resets_at: { $ref: '#/components/schemas/Instant' }
              overage:
                type: integer
                format: int64
                minimum: 0
                description: How many of the units would lie beyond what the price includes. Of `pay_as_you_go` alone.
              over:
                type: integer
                format: int64
                minimum: 0
                description: How many of the units would lie beyond the limit. Of `soft` alone.
    QuotaRoom:
      type: string
      enum: [free, held, none]
      description: >-
        `free`: any gateway can admit it. `held`: only within what gateways hold at the moment, for requests in flight or
        to come; it may be refused. `none`: it is refused.

    RequestStatus: { type: string, enum: [queued, processing, completed, failed, cancelled, expired] }
    Request:
      type: object
      required:
        [id, object, status, model, version, key_id, created_at, completed_at, processing_time_ms, http_status,
        error_code,
         usage, price_version, cost_micros, currency, cached, operation, user_id, held_tokens]
      properties:
        id: { $ref: '#/components/schemas/RequestId' }
        object: { type: string, const: request }
        status: { $ref: '#/components/schemas/RequestStatus' }
        model: { $ref: '#/components/schemas/ModelName' }
        version: { type: [string, 'null'] }
        key_id: { $ref: '#/components/schemas/KeyId' }
        created_at: { $ref: '#/components/schemas/Instant' }
        completed_at:
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
        processing_time_ms: { type: [integer, 'null'], minimum: 0 }
        http_status: { type: [integer, 'null'], minimum: 100, maximum: 599 }
        error_code: { type: [string, 'null'] }
        usage:
          oneOf: [{ $ref: '#/components/schemas/Usage' }, { type: 'null' }]
        price_version:
          oneOf: [{ $ref: '#/components/schemas/PriceVersion' }, { type: 'null' }]
        cost_micros:
          type: [integer, 'null']
          format: int64
          description: When rated alone. Zero for a failed request that was not charged.
        currency:
          oneOf: [{ $ref: '#/components/schemas/Currency' }, { type: 'null' }]
        cached: { type: boolean }
        operation: { type: string, description: The kind of work., examples: [predict, chat.completions] }
        user_id: { type: [string, 'null'], format: uuid }
        held_tokens: { type: [integer, 'null'], minimum: 0, description: What was held at admission. }
      examples:
        - id: req_0195a3c8-7b1e-7c3d-9f20-3a5b8e6d1c42
          object: request
          status: completed
          model: iris
          version: '1'
          key_id: 0195a3c0-22bb-7cde-9f11-6a7b8c9d0e1f
          created_at: '2026-03-14T09:26:53.589793Z'
          completed_at: '2026-03-14T09:26:53.592310Z'
          processing_time_ms: 3
          http_status: 200
          error_code: null
          usage: { input_tokens: 4, cached_input_tokens: 0, output_tokens: 1, source: fixed }
          price_version: pv_0195a3c0-11aa-7bcd-8e00-5f6a7b8c9d0e
          cost_micros: 11
          currency: EUR
          cached: false
          operation: predict
          user_id: null
          held_tokens: 20
    RequestDetail:
      allOf:
        - { $ref: '#/components/schemas/Request' }
        - type: object
          required: [prompt, prompt_sha256, result]
          properties:
            prompt: { type: [string, 'null'], description: The body as it came, where the retention keeps it. }
            prompt_sha256: { type: [string, 'null'], pattern: '^[0-9a-f]{64}$' }
            result: { $ref: '#/components/schemas/KeptResult' }
    KeptResult:
      type: object
      description: What there is of the result; the result itself is at `url`.
      required: [state, url, content_type, bytes, sha256, expires_at]
      properties:
        state:
          type: string
          enum: [none, digest, kept, gone]
          description: >-
            `none`: nothing was kept, or there is no result yet. `digest`: it was too large, or the retention keeps digests. `gone`: its time is
            over, or the retention has become stricter.
        url: { type: [string, 'null'] }
        content_type: { type: [string, 'null'] }
        bytes: { type: [integer, 'null'], minimum: 0 }
        sha256: { type: [string, 'null'], pattern: '^[0-9a-f]{64}$' }
        expires_at:
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
    RequestList:
      type: object
      required: [object, data, first_id, last_id, has_more, next_cursor, previous_cursor]
      properties:
        object: { type: string, const: list }
        data:
          type: array
          items: { $ref: '#/components/schemas/Request' }
        first_id: { type: [string, 'null'], description: To be given as `before`. }
        last_id: { type: [string, 'null'], description: To be given as `after`. }
        has_more: { type: boolean, description: 'Whether the list goes on in the direction that was asked for.' }
        next_cursor:
          type: [string, 'null']
          description: To be given as `after` for older requests. Better than `last_id`, which an empty page does not have.
        previous_cursor: { type: [string, 'null'], description: To be given as `before` for newer requests. }

    OpenAIFileId: { type: string, pattern: '^file-[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' }
    OpenAIBatchId: { type: string, pattern: '^batch_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' }
    OpenAIFile:
      type: object
      required: [id, object, bytes, created_at, expires_at, filename, purpose, status]
      properties:
        id: { $ref: '#/components/schemas/OpenAIFileId' }
        object: { type: string, const: file }
        bytes: { type: integer, minimum: 0 }
        created_at: { type: integer, description: Seconds since 1970. }
        expires_at: { type: integer, description: 'Seconds since 1970: thirty days later.' }
        filename: { type: string }
        purpose: { type: string, enum: [batch, batch_output] }
        status: { type: string, const: processed }
    OpenAIFileList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data:
          type: array
          items: { $ref: '#/components/schemas/OpenAIFile' }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'] }
        has_more: { type: boolean }
    OpenAIFileDeletion:
      type: object
      required: [id, object, deleted]
      properties:
        id: { $ref: '#/components/schemas/OpenAIFileId' }
        object: { type: string, const: file }
        deleted: { type: boolean, const: true }
    NewOpenAIBatch:
      type: object
      required: [input_file_id, endpoint, completion_window]
      additionalProperties: false
      properties:
        input_file_id: { type: string, minLength: 1, maxLength: 64 }
        endpoint: { type: string, enum: [/v1/chat/completions, /v1/completions, /v1/embeddings] }
        completion_window: { type: string, const: 24h }
        metadata:
          type: [object, 'null']
          maxProperties: 16
          propertyNames: { maxLength: 64 }
          additionalProperties: { type: string, maxLength: 512 }
        output_expires_after: { description: 'Accepted and not used: outputs are kept for thirty days.' }
    OpenAIBatch:
      type: object
      required:
        [id, object, endpoint, errors, input_file_id, completion_window, status, output_file_id, error_file_id, created_at,
         in_progress_at, expires_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at, cancelled_at,
         request_counts, usage, metadata]
      properties:
        id: { $ref: '#/components/schemas/OpenAIBatchId' }
        object: { type: string, const: batch }
        endpoint: { type: string }
        errors:
          description: What is wrong with the input of a batch that failed, at most a hundred lines of it.
          oneOf:
            - { type: 'null' }
            - type: object
              required: [object, data]
              properties:
                object: { type: string, const: list }
                data:
                  type: array
                  items:
                    type: object
                    required: [code, message]
                    properties:
                      code: { type: string, examples: [duplicate_custom_id] }
                      message: { type: string }
                      param: { type: string }
                      line: { type: integer, minimum: 1 }
        input_file_id: { $ref: '#/components/schemas/OpenAIFileId' }
        completion_window: { type: string, const: 24h }
        status:
          type: string
          enum: [validating, failed, in_progress, finalizing, completed, expired, cancelling, cancelled]
        output_file_id: { type: [string, 'null'] }
        error_file_id: { type: [string, 'null'] }
        created_at: { type: integer }
        expires_at: { type: integer }
        in_progress_at: { type: [integer, 'null'] }
        finalizing_at: { type: [integer, 'null'] }
        completed_at: { type: [integer, 'null'] }
        failed_at: { type: [integer, 'null'] }
        expired_at: { type: [integer, 'null'] }
        cancelling_at: { type: [integer, 'null'] }
        cancelled_at: { type: [integer, 'null'] }
        request_counts:
          type: object
          required: [total, completed, failed]
          properties:
            total: { type: integer, minimum: 0 }
            completed: { type: integer, minimum: 0 }
            failed: { type: integer, minimum: 0 }
        usage:
          type: object
          description: The sum of what was charged.
          required: [input_tokens, input_tokens_details, output_tokens, output_tokens_details, total_tokens]
          properties:
            input_tokens: { type: integer, minimum: 0 }
            input_tokens_details: { type: object }
            output_tokens: { type: integer, minimum: 0 }
            output_tokens_details: { type: object }
            total_tokens: { type: integer, minimum: 0 }
        metadata:
          type: object
          additionalProperties: { type: string }
    OpenAIBatchList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data:
          type: array
          items: { $ref: '#/components/schemas/OpenAIBatch' }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'] }
        has_more: { type: boolean }
    WebhookId: { type: string, pattern: '^whk_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' }
    WebhookEventId: { type: string, pattern: '^evt_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' }
    WebhookDeliveryId: { type: string, pattern: '^dlv_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' }
    WebhookEventKind:
      type: string
      enum:
        [job.completed, job.failed, job.cancelled, job.expired, batch.completed, batch.failed, batch.cancelled,
         batch.expired, quota.threshold]
    NewWebhook:
      type: object
      required: [url]
      additionalProperties: false
      properties:
        url:
          type: string
          minLength: 1
          maxLength: 2048
          pattern: '^[!-~]+$'
          description: '`https://`, with a host that is on the public internet; no user name, no fragment.'
        events:
          type: array
          minItems: 1
          items: { $ref: '#/components/schemas/WebhookEventKind' }
          description: Of what to tell; left out for all that there are now.
        description: { type: [string, 'null'], maxLength: 200, pattern: '^[^\x00-\x1F\x7F]*$', description: One line for yourself. }
    WebhookRotation:
      type: object
      additionalProperties: false
      properties:
        grace_seconds:
          type: [integer, 'null']
          minimum: 0
          maximum: 604800
          default: 86400
          description: How long the secret before the new one signs as well.
    Webhook:
      type: object
      required:
        [id, object, url, description, events, status, disabled_reason, failing_since, last_delivered_at,
         previous_secret_until, created_at]
      properties:
        id: { $ref: '#/components/schemas/WebhookId' }
        object: { type: string, const: webhook }
        url: { type: string }
        description: { type: string }
        events:
          type: array
          items: { $ref: '#/components/schemas/WebhookEventKind' }
        status:
          type: string
          enum: [active, failing, disabled]
          description: >-
            `failing`: a delivery was given up and none has succeeded since; it is still tried. `disabled`: nothing is sent,
            and what happens now is not kept for it.
        disabled_reason:
          type: [string, 'null']
          enum: [gone, failing, null]
          description: '`gone`: it answered 410. `failing`: it took nothing for days.'
        failing_since:
          description: When the first attempt failed since one succeeded.
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
        last_delivered_at:
          description: To about ten seconds.
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
        previous_secret_until:
          description: Until when the secret before the present one signs as well.
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
        created_at: { $ref: '#/components/schemas/Instant' }
    WebhookWithSecret:
      allOf:
        - { $ref: '#/components/schemas/Webhook' }
        - type: object
          required: [secret]
          properties:
            secret:
              type: string
              pattern: '^whsec_[A-Za-z0-9+/]{43}=$'
              description: Told this once.
    WebhookList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data:
          type: array
          items: { $ref: '#/components/schemas/Webhook' }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'] }
        has_more: { type: boolean, const: false }
    WebhookDeliveryState: { type: string, enum: [waiting, sending, delivered, failed] }
    WebhookDelivery:
      type: object
      required:
        [id, object, webhook_id, event_id, event, state, attempts, created_at, next_attempt_at, last_attempt_at,
         last_status, last_error, last_ms, finished_at]
      properties:
        id: { $ref: '#/components/schemas/WebhookDeliveryId' }
        object: { type: string, const: webhook_delivery }
        webhook_id: { $ref: '#/components/schemas/WebhookId' }
        event_id:
          description: The header `webhook-id`, the same at every attempt.
          $ref: '#/components/schemas/WebhookEventId'
        event: { $ref: '#/components/schemas/WebhookEventKind' }
        state: { $ref: '#/components/schemas/WebhookDeliveryState' }
        attempts: { type: integer, minimum: 0 }
        created_at:
          description: When the event happened.
          $ref: '#/components/schemas/Instant'
        next_attempt_at:
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
        last_attempt_at:
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
        last_status: { type: [integer, 'null'], minimum: 100, maximum: 999 }
        last_error:
          type: [string, 'null']
          examples: [timeout]
          description: >-
            Where the last attempt was not answered: `unknown_host`, `forbidden_target`, `connect_failed`, `tls`, `timeout`,
            `connection_closed`, `malformed_answer`, `webhook_disabled`, `too_many_waiting`; `secret_unreadable` and `no_capacity`
            are our fault: nothing was sent, and the attempt is not counted.
        last_ms: { type: [integer, 'null'], minimum: 0 }
        finished_at:
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]
    WebhookDeliveryList:
      type: object
      required: [object, data, first_id, last_id, has_more]
      properties:
        object: { type: string, const: list }
        data:
          type: array
          items: { $ref: '#/components/schemas/WebhookDelivery' }
        first_id: { type: [string, 'null'] }
        last_id: { type: [string, 'null'], description: To be given as `after`. }
        has_more: { type: boolean }

    StatusReport:
      type: object
      required: [request_id, status, result, error, created_at, completed_at]
      properties:
        request_id: { $ref: '#/components/schemas/RequestId' }
        status: { $ref: '#/components/schemas/RequestStatus' }
        result:
          description: What the model answered; null when there is none yet, it failed, or the tenant keeps no results.
        error:
          description: Null unless the request failed.
          oneOf:
            - { type: 'null' }
            - type: object
              required: [code, message]
              properties:
                code: { type: string, examples: [upstream_timeout] }
                message: { type: string }
        created_at: { $ref: '#/components/schemas/Instant' }
        completed_at:
          oneOf: [{ $ref: '#/components/schemas/Instant' }, { type: 'null' }]

    Problem:
      type: object
      description: RFC 9457. `code` is stable; texts are for people and may change.
      required: [type, title, status, detail, code, request_id, errors]
      properties:
        type: { type: string, format: uri-reference }
        title: { type: string }
        status: { type: integer, minimum: 400, maximum: 599 }
        detail: { type: string }
        instance: { type: string, format: uri-reference }
        code: { type: string, pattern: '^[a-z][a-z0-9_]*$' }
        request_id: { $ref: '#/components/schemas/RequestId' }
        errors:
          type: array
          items:
            type: object
            required: [location, message]
            properties:
              location:
                type: string
                description: A JSON Pointer into the body, as in `/name`, or a parameter's name, as in `limit`.
              message: { type: string, description: What is wrong. }
              fix: { type: string, description: What to do about it. }
    PredictProblem:
      allOf:
        - { $ref: '#/components/schemas/Problem' }
        - type: object
          properties:
            charge:
              type: object
              description: What was charged although there is no prediction; left out where nothing was.
              required: [reason, requests, price_version, cost_micros, currency]
              properties:
                reason: { type: string, const: failed_request }
                requests: { type: integer, const: 1 }
                price_version: { $ref: '#/components/schemas/PriceVersion' }
                cost_micros: { type: [integer, 'null'], format: int64, description: When rated alone. }
                currency: { $ref: '#/components/schemas/Currency' }
    LimitProblem:
      oneOf:
        - { $ref: '#/components/schemas/QuotaProblem' }
        - { $ref: '#/components/schemas/RateProblem' }
    RateProblem:
      allOf:
        - { $ref: '#/components/schemas/Problem' }
        - type: object
          required: [violated-policies, rate_limit]
          properties:
            violated-policies:
              type: array
              minItems: 1
              items: { type: string }
            rate_limit:
              type: object
              required: [policy, scope, unit, limit, burst, remaining, requested]
              properties:
                policy: { type: string, examples: [rpm] }
                scope: { type: string, enum: [tenant, key] }
                unit: { type: string, enum: [requests, tokens, concurrency] }
                limit:
                  description: Units per minute; under way at once for concurrency.
                  $ref: '#/components/schemas/Count'
                burst:
                  description: The most units that can come at once after a pause.
                  $ref: '#/components/schemas/Count'
                remaining: { $ref: '#/components/schemas/Count' }
                requested: { $ref: '#/components/schemas/Count' }
                retry_after_ms:
                  description: Left out, as is `Retry-After`, where waiting does not help.
                  $ref: '#/components/schemas/Count'
    QuotaProblem:
      allOf:
        - { $ref: '#/components/schemas/Problem' }
        - type: object
          required: [violated-policies, quota]
          properties:
            violated-policies:
              type: array
              minItems: 1
              items: { type: string }
            quota:
              type: object
              required: [policy, unit, limit, settled, held, requested]
              properties:
                policy: { type: string }
                unit: { $ref: '#/components/schemas/QuotaUnit' }
                limit: { $ref: '#/components/schemas/Count' }
                settled: { $ref: '#/components/schemas/Count' }
                held: { $ref: '#/components/schemas/Count' }
                requested: { $ref: '#/components/schemas/Count' }
                resets_at:
                  description: Left out, as is `Retry-After`, for a quota that never begins anew.
                  $ref: '#/components/schemas/Instant'

"""#
}
