// Restorable ranges as text: what can be restored to the single write, and the points that stand
// alone because what lies between them was thinned.

import BlockModel
import CommandText
import History

enum RangesText {
    /// Single points listed at most; programs take --json.
    static let pointsShown = 40

    static func text(_ ranges: [RestorableRange]) -> String {
        let points = ranges.filter { $0.first.lsn == $0.last.lsn }
        let shown = points.suffix(pointsShown)
        var text = ""
        var alone = TextTable([.left, .left])
        for point in shown { alone.add(["  " + point.first.time, "lsn:\(point.first.lsn)"]) }
        if !points.isEmpty {
            let some = shown.count < points.count ? ", the newest \(shown.count)" : ""
            text += "single points: \(points.count)\(some)\n" + alone.text
        }
        var table = TextTable([.left, .left, .left, .left])
        for range in ranges where range.first.lsn < range.last.lsn {
            table.add(["every moment from", range.first.time, "to", range.last.time])
            table.add(["", "lsn:\(range.first.lsn)", "", "lsn:\(range.last.lsn)"])
        }
        return text + table.text
    }
}
