// Where two points of a volume differ, as a heat map: the volume in rows from its first byte to
// its last, each cell the same number of bytes, its colour the part of it that changed.

/// The picture of `logdisk diff --svg`.
public struct ChangeMapPicture {
    /// A run of bytes.
    public struct Run: Hashable, Sendable {
        public var offset: UInt64
        public var byteCount: UInt64

        public init(offset: UInt64, byteCount: UInt64) {
            self.offset = offset
            self.byteCount = byteCount
        }
    }

    private let title: String
    private let subtitle: String
    private let volumeBytes: UInt64
    private let runs: [Run]

    private static let columns = 64
    private static let rowsMax = 32
    private static let cell = 12.0
    private static let left = 96.0
    private static let top = 116.0
    /// From "nothing" to "all"; ordered in lightness, so it reads in grey as well.
    private static let colours = ["#e9edf1", "#ffe08a", "#fdae4b", "#f0633a", "#c2185b", "#4a0d43"]
    private static let labels = ["nothing", "to 1%", "to 10%", "to 50%", "below 100%", "all of it"]

    /// `runs` in address order, disjoint, inside the volume.
    public init(title: String, subtitle: String, volumeBytes: UInt64, runs: [Run]) {
        self.title = title
        self.subtitle = subtitle
        self.volumeBytes = volumeBytes
        self.runs = runs
    }

    /// Bytes of one cell: the least power of two, from a sector on, with which the volume fits.
    public var cellBytes: UInt64 {
        var bytes: UInt64 = 512
        let cells = UInt64(Self.columns * Self.rowsMax)
        while bytes < volumeBytes, (volumeBytes - 1) / bytes >= cells { bytes *= 2 }
        return bytes
    }

    /// Changed bytes of each cell.
    public var changedBytes: [UInt64] {
        let size = cellBytes
        guard volumeBytes > 0 else { return [] }
        var cells = [UInt64](repeating: 0, count: Int((volumeBytes - 1) / size) + 1)
        for run in runs {
            var position = run.offset
            let end = min(volumeBytes, run.offset + run.byteCount)
            while position < end {
                let number = position / size
                let pieceEnd = min(end, (number + 1) * size)
                cells[Int(number)] += pieceEnd - position
                position = pieceEnd
            }
        }
        return cells
    }

    public var svg: String {
        let cells = changedBytes
        let rows = (cells.count + Self.columns - 1) / Self.columns
        let right = Self.left + Double(Self.columns) * Self.cell
        let bottom = Self.top + Double(rows) * Self.cell
        var picture = SVGDocument(
            width: Int(right) + 24, height: Int(bottom) + 84, title: title)
        picture.text(Self.left, 28, title, size: 17, isBold: true)
        picture.text(Self.left, 50, subtitle, size: 13)
        picture.text(Self.left, 69, facts, size: 13)
        drawAxes(&picture, rows: rows)
        let size = cellBytes
        for (number, changed) in cells.enumerated() {
            let start = UInt64(number) * size
            let bytes = min(size, volumeBytes - start)
            let place = (Double(number % Self.columns), Double(number / Self.columns))
            let hint =
                changed == 0
                ? nil
                : "bytes \(start) to \(start + bytes - 1): \(ByteSize(bytes: changed)) changed"
            picture.rect(
                Self.left + place.0 * Self.cell, Self.top + place.1 * Self.cell, Self.cell - 1,
                Self.cell - 1, fill: Self.colours[Self.level(changed, of: bytes)], hint: hint)
        }
        drawLegend(&picture, y: bottom + 34)
        return picture.text
    }

    private var facts: String {
        let changed = runs.reduce(0) { $0 + $1.byteCount }
        let share = volumeBytes == 0 ? 0 : Double(changed) / Double(volumeBytes) * 100
        let percent = changed > 0 && share < 0.01 ? "below 0.01" : SVGDocument.number(share)
        let places = runs.count == 1 ? "1 extent" : "\(runs.count) extents"
        return
            "\(ByteSize(bytes: changed)) in \(places) changed of \(ByteSize(bytes: volumeBytes)) "
            + "(\(percent)%)"
    }

    private func drawAxes(_ picture: inout SVGDocument, rows: Int) {
        let grey = "#5c6670"
        let size = cellBytes
        picture.text(
            Self.left, Self.top - 22, "offset within the row →", size: 11, fill: grey)
        for column in stride(from: 0, to: Self.columns, by: 16) {
            let x = Self.left + Double(column) * Self.cell
            picture.text(
                x, Self.top - 7, "+\(ByteSize(bytes: UInt64(column) * size))", size: 11, fill: grey)
            picture.line(x, Self.top - 4, x, Self.top - 1, stroke: grey)
        }
        picture.text(
            Self.left - 8, Self.top - 22, "row starts at", size: 11, anchor: .end, fill: grey)
        let step = rows > 16 ? 4 : rows > 8 ? 2 : 1
        for row in stride(from: 0, to: rows, by: step) {
            let y = Self.top + Double(row) * Self.cell
            let start = UInt64(row * Self.columns) * size
            picture.text(
                Self.left - 8, y + 9, "\(ByteSize(bytes: start))", size: 11, anchor: .end,
                fill: grey)
            picture.line(Self.left - 5, y + 5, Self.left - 2, y + 5, stroke: grey)
        }
    }

    private func drawLegend(_ picture: inout SVGDocument, y: Double) {
        picture.text(Self.left, y, "part of a cell that changed:", size: 12)
        var x = Self.left + 190
        for (colour, label) in zip(Self.colours, Self.labels) {
            picture.rect(x, y - 10, 12, 12, fill: colour)
            picture.text(x + 17, y, label, size: 12)
            x += 92
        }
        picture.text(
            Self.left, y + 24,
            "one cell is \(ByteSize(bytes: cellBytes)), one row "
                + "\(ByteSize(bytes: cellBytes * UInt64(Self.columns)))", size: 12)
    }

    /// The colour of a cell.
    static func level(_ changed: UInt64, of bytes: UInt64) -> Int {
        if changed == 0 { return 0 }
        if changed >= bytes { return 5 }
        let part = Double(changed) / Double(bytes)
        return part <= 0.01 ? 1 : part <= 0.1 ? 2 : part <= 0.5 ? 3 : 4
    }
}
