// "That point cannot be restored", with the nearest ones that can (promise R4).

import BlockModel
import CommandText
import History

extension CommandFailure {
    init(_ error: NotRestorable, object: String) {
        var hints: [String] = []
        if case .unknownMark(let similar) = error.reason, !similar.isEmpty {
            hints.append("similar marks: " + similar.joined(separator: ", "))
        }
        let isPlace = if case .unknownMark = error.reason { false } else { true }
        if isPlace, let before = error.before { hints.append("nearest before: \(before.words)") }
        if isPlace, let after = error.after { hints.append("nearest after: \(after.words)") }
        if hints.isEmpty { hints.append("logdisk points \(object) lists what can be restored") }
        self.init(
            .notRestorable, object, "\(error.target.words) cannot be restored",
            cause: error.reason.words, hint: hints.joined(separator: "; "))
    }
}

extension Stamp {
    /// `lsn:12 (2026-11-21T10:05:03Z)`; what is before the bracket can be typed as a target.
    var words: String { "lsn:\(lsn) (\(TimeText.rfc3339(wallNanoseconds)))" }
    var time: String { TimeText.rfc3339(wallNanoseconds) }
}

extension NotRestorable.Reason {
    var words: String {
        switch self {
        case .inFuture: "it lies in the future"
        case .beyondLast(let last): "the last record is lsn \(last)"
        case .beforeBase: "it lies before the first restorable point"
        case .gap(let gap): "it lies in a gap, lsn \(gap.first) to \(gap.last): \(gap.reason)"
        case .unknownMark: "there is no such mark"
        case .noFlush: "no flush lies between it and the base or gap before it"
        case .noSuchSnapshot(let lsn): "no snapshot at lsn \(lsn) leads to it"
        case .nothing: "nothing is restorable"
        }
    }
}

extension Target {
    var words: String {
        switch self {
        case .now: "now"
        case .time(let wall): TimeText.rfc3339(wall)
        case .ago(let nanoseconds):
            DurationText(seconds: nanoseconds / 1_000_000_000).description + " ago"
        case .lsn(let lsn): "lsn:\(lsn)"
        case .mark(let name): "mark:\(name)"
        }
    }
}
