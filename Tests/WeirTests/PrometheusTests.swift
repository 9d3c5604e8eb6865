import CoreMetrics
import Testing

@testable import weir

@Suite("Prometheus")
struct PrometheusTests {
    @Test("the page is rendered as the format asks")
    func golden() {
        let registry = PrometheusRegistry(help: ["weir_requests_total": "Requests\nby \\ code."])
        registry.makeCounter(label: "weir.requests", dimensions: [("code", "200"), ("area", "a\"b\\c\nd")]).increment(
            by: 3)
        registry.makeCounter(label: "weir.requests", dimensions: [("code", "429"), ("area", "x")]).increment(by: 1)
        registry.makeMeter(label: "weir_holds_open", dimensions: []).set(Int64(7))
        let gauge = registry.makeRecorder(label: "queue depth", dimensions: [], aggregate: false)
        gauge.record(1.5)
        #expect(
            registry.render() == """
                # TYPE queue_depth gauge
                queue_depth 1.5
                # TYPE weir_holds_open gauge
                weir_holds_open 7
                # HELP weir_requests_total Requests\\nby \\\\ code.
                # TYPE weir_requests_total counter
                weir_requests_total{area="a\\"b\\\\c\\nd",code="200"} 3
                weir_requests_total{area="x",code="429"} 1

                """)
    }

    @Test("a timer is a histogram in seconds with cumulative buckets and an exact sum")
    func timer() {
        let registry = PrometheusRegistry()
        let timer = registry.makeTimer(label: "gen_ai.server.request.duration", dimensions: [("model", "iris")])
        for nanoseconds: Int64 in [400_000, 500_000, 3_000_000, 120_000_000_000] {
            timer.recordNanoseconds(nanoseconds)
        }
        let lines = registry.render().split(separator: "\n").map(String.init)
        #expect(lines.first == "# TYPE gen_ai_server_request_duration_seconds histogram")
        #expect(lines.contains("gen_ai_server_request_duration_seconds_bucket{model=\"iris\",le=\"0.0005\"} 2"))
        #expect(lines.contains("gen_ai_server_request_duration_seconds_bucket{model=\"iris\",le=\"0.0025\"} 2"))
        #expect(lines.contains("gen_ai_server_request_duration_seconds_bucket{model=\"iris\",le=\"0.005\"} 3"))
        #expect(lines.contains("gen_ai_server_request_duration_seconds_bucket{model=\"iris\",le=\"60.0\"} 3"))
        #expect(lines.contains("gen_ai_server_request_duration_seconds_bucket{model=\"iris\",le=\"+Inf\"} 4"))
        #expect(lines.contains("gen_ai_server_request_duration_seconds_sum{model=\"iris\"} 120.0039"))
        #expect(lines.contains("gen_ai_server_request_duration_seconds_count{model=\"iris\"} 4"))
    }

    @Test("a recorder that aggregates counts sizes")
    func recorder() {
        let registry = PrometheusRegistry()
        let recorder = registry.makeRecorder(label: "batch_rows", dimensions: [], aggregate: true)
        recorder.record(Int64(1))
        recorder.record(Int64(64))
        recorder.record(Double.nan)
        let text = registry.render()
        #expect(text.contains("batch_rows_bucket{le=\"1.0\"} 1\n"))
        #expect(text.contains("batch_rows_bucket{le=\"100.0\"} 2\n"))
        #expect(text.contains("batch_rows_sum 65\nbatch_rows_count 2\n"))
    }

    @Test("beyond the limit every further set of labels shares the series `other`")
    func cardinality() {
        let registry = PrometheusRegistry(seriesLimit: 3)
        for index in 0..<100 {
            registry.makeCounter(label: "hits", dimensions: [("path", "/\(index)"), ("code", "200")]).increment(by: 1)
        }
        let series = registry.render().split(separator: "\n").filter { $0.hasPrefix("hits_total") }
        #expect(series.count == 4)
        #expect(series.contains("hits_total{code=\"other\",path=\"other\"} 97"))
        registry.makeCounter(label: "hits", dimensions: [("path", "/1"), ("code", "200")]).increment(by: 1)
        #expect(registry.render().contains("hits_total{code=\"200\",path=\"/1\"} 2\n"))
    }

    @Test("a gauge that is destroyed gives its place to another, a counter does not")
    func destroyed() {
        let registry = PrometheusRegistry(seriesLimit: 2)
        for number in 0..<10 {
            let gauge = registry.makeRecorder(label: "depth", dimensions: [("of", "\(number)")], aggregate: false)
            gauge.record(Int64(number))
            if number < 9 { registry.destroyRecorder(gauge) }
            let counter = registry.makeCounter(label: "hits", dimensions: [("of", "0")])
            counter.increment(by: 1)
            registry.destroyCounter(counter)
        }
        let lines = registry.render().split(separator: "\n").filter { !$0.hasPrefix("#") }.map(String.init)
        #expect(lines == ["depth{of=\"9\"} 9", "hits_total{of=\"0\"} 10"])
    }

    @Test("the order of labels does not make another series")
    func labelOrder() {
        let registry = PrometheusRegistry()
        registry.makeCounter(label: "c", dimensions: [("a", "1"), ("b", "2")]).increment(by: 1)
        registry.makeCounter(label: "c", dimensions: [("b", "2"), ("a", "1")]).increment(by: 1)
        #expect(registry.render().contains("c_total{a=\"1\",b=\"2\"} 2\n"))
    }

    @Test("a counter never falls")
    func counterRises() {
        let registry = PrometheusRegistry()
        let counter = registry.makeCounter(label: "c_total", dimensions: [])
        counter.increment(by: 5)
        counter.increment(by: -3)
        let fractions = registry.makeFloatingPointCounter(label: "f", dimensions: [])
        fractions.increment(by: 0.5)
        fractions.increment(by: -.infinity)
        #expect(registry.render() == "# TYPE c_total counter\nc_total 5\n# TYPE f_total counter\nf_total 0.5\n")
    }

    @Test("a gauge goes up and down")
    func gauge() {
        let registry = PrometheusRegistry()
        let gauge = registry.makeMeter(label: "g", dimensions: [])
        gauge.set(2.0)
        gauge.increment(by: 3)
        gauge.decrement(by: 1.5)
        #expect(registry.render().contains("g 3.5\n"))
    }

    @Test("a name that two kinds want stays with the first, and the second harms nothing")
    func conflict() {
        let registry = PrometheusRegistry()
        registry.makeMeter(label: "x", dimensions: []).set(Int64(1))
        registry.makeRecorder(label: "x", dimensions: [], aggregate: true).record(Int64(9))
        #expect(registry.render() == "# TYPE x gauge\nx 1\n")
    }

    @Test(
        "names are cleaned",
        arguments: [("a.b-c", "a_b_c"), ("9lives", "_9lives"), ("", "_"), ("größe", "gr____e"), ("a:b", "a:b")])
    func names(given: String, expected: String) {
        #expect(PrometheusNames.metric(given) == expected)
    }

    @Test("a label's name never begins with the reserved double underscore and holds no colon")
    func labelNames() {
        #expect(PrometheusNames.label("__name__") == "x__name__")
        #expect(PrometheusNames.label("a:b") == "a_b")
    }

    @Test(
        "nanoseconds become decimal seconds",
        arguments: [
            (0, "0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (-2_000_000_000, "-2"),
            (Int64.min, "-9223372036.854775808"),
        ])
    func seconds(nanoseconds: Int64, expected: String) {
        #expect(PrometheusNames.seconds(nanoseconds: nanoseconds) == expected)
    }

    @Test("counts from many tasks add up")
    func concurrency() async {
        let registry = PrometheusRegistry()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    let counter = registry.makeCounter(label: "n", dimensions: [])
                    let timer = registry.makeTimer(label: "t", dimensions: [])
                    for _ in 0..<1_000 {
                        counter.increment(by: 1)
                        timer.recordNanoseconds(1_000_000)
                    }
                }
            }
        }
        let text = registry.render()
        #expect(text.contains("n_total 8000\n"))
        #expect(text.contains("t_seconds_count 8000\n") && text.contains("t_seconds_sum 8\n"))
    }
}
