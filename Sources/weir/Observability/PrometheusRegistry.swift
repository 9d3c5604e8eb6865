import CoreMetrics
import Synchronization

/// Keeps every metric of the process and writes them in Prometheus's text format 0.0.4.
///
/// Counters get the suffix `_total`, timers `_seconds`. A metric has at most ``seriesLimit`` sets of labels; further
/// ones share one series whose label values are `other`, so that a label nobody bounded costs memory once and not for
/// ever. A gauge that is destroyed gives its place to another.
final class PrometheusRegistry: MetricsFactory {
    private enum Kind: String {
        case counter
        case gauge
        case histogram
    }

    private struct Family {
        let kind: Kind
        var help: String?
        /// By rendered labels.
        var series: [String: any PrometheusCell] = [:]
    }

    /// The media type of what ``render()`` returns.
    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    /// Sets of labels that one metric may have.
    let seriesLimit: Int
    private let families = Mutex<[String: Family]>([:])
    private let help: [String: String]

    /// - Parameters:
    ///   - seriesLimit: sets of labels that one metric may have.
    ///   - help: a sentence for each metric that has one, by its rendered name.
    init(seriesLimit: Int = 200, help: [String: String] = [:]) {
        self.seriesLimit = seriesLimit
        self.help = help
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        cell(PrometheusNames.suffixed(PrometheusNames.metric(label), "_total"), .counter, dimensions) { CounterCell() }
    }

    func makeFloatingPointCounter(label: String, dimensions: [(String, String)]) -> any FloatingPointCounterHandler {
        cell(PrometheusNames.suffixed(PrometheusNames.metric(label), "_total"), .counter, dimensions) {
            FloatingCounterCell()
        }
    }

    func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        cell(PrometheusNames.metric(label), .gauge, dimensions) { GaugeCell() }
    }

    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        let name = PrometheusNames.metric(label)
        return aggregate
            ? cell(name, .histogram, dimensions) { HistogramCell(.sizes) }
            : cell(name, .gauge, dimensions) { GaugeCell() }
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        cell(PrometheusNames.suffixed(PrometheusNames.metric(label), "_seconds"), .histogram, dimensions) {
            HistogramCell(.seconds)
        }
    }

    // A counter's series stays when its handle goes: one that vanished and came back would look like a restart. A gauge's says how
    // something is now, and what is gone is not.
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    func destroyMeter(_ handler: any MeterHandler) { removeGauge(handler) }
    func destroyRecorder(_ handler: any RecorderHandler) { removeGauge(handler) }
    func destroyTimer(_ handler: any TimerHandler) {}

    private func removeGauge(_ handler: AnyObject) {
        families.withLock { families in
            for (name, family) in families where family.kind == .gauge {
                guard let labels = family.series.first(where: { $0.value === handler })?.key else { continue }
                families[name]?.series[labels] = nil
                return
            }
        }
    }

    /// All metrics, by name and labels.
    func render() -> String {
        // Cells are classes with locks of their own: the table is copied under its lock and rendered outside.
        let snapshot = families.withLock { $0 }
        var text = ""
        for (name, family) in snapshot.sorted(by: { $0.key < $1.key }) {
            if let help = family.help {
                text += "# HELP \(name) \(PrometheusNames.escapedHelp(help))\n"
            }
            text += "# TYPE \(name) \(family.kind.rawValue)\n"
            for (labels, cell) in family.series.sorted(by: { $0.key < $1.key }) {
                cell.render(name: name, labels: labels, into: &text)
            }
        }
        return text
    }

    /// The cell of this name and these labels, made on the first use.
    ///
    /// Where the name belongs to a metric of another kind already, the caller gets a cell that nobody renders: a
    /// mistake in an instrument must not stop a request, and two kinds under one name would make the whole page
    /// unreadable.
    private func cell<Cell: PrometheusCell>(
        _ name: String, _ kind: Kind, _ dimensions: [(String, String)], make: () -> Cell
    ) -> Cell {
        let labels = PrometheusNames.rendered(dimensions)
        return families.withLock { families in
            var family = families[name] ?? Family(kind: kind, help: help[name])
            guard family.kind == kind else { return make() }
            if let existing = family.series[labels] { return existing as? Cell ?? make() }
            var key = labels
            if family.series.count >= seriesLimit, !dimensions.isEmpty {
                key = PrometheusNames.rendered(dimensions.map { ($0.0, "other") })
                if let overflow = family.series[key] { return overflow as? Cell ?? make() }
            }
            let cell = make()
            family.series[key] = cell
            families[name] = family
            return cell
        }
    }
}
