// A plan as a picture: one bar a device, its pieces in the order in which they are written, the
// threshold as a line through all bars. A file keeps its colour wherever its pieces lie, so a cut
// shows. Pieces too thin to see are drawn together.

/// The picture of `logdisk spread plan --svg`.
public struct SpreadPicture {
    private struct Run {
        var bytes: UInt64
        /// nil: several pieces together.
        var colour: Int?
        var label: String
        var hint: String
        var count: Int
    }

    private struct Bar {
        var name: String
        var note: String
        var isAvailable: Bool
        var bytes: UInt64
        var capacity: UInt64?
        var runs: [Run] = []
    }

    private let title: String
    private let subtitle: String
    private let threshold: UInt64
    private let longest: UInt64
    private var bars: [Bar] = []

    private static let left = 24.0
    private static let width = 760.0
    private static let top = 84.0
    private static let step = 62.0
    private static let height = 26.0
    /// Told apart also without colour sight, each beside the next.
    private static let colours = [
        "#4477aa", "#ee8866", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#bb5566", "#44bb99",
        "#8888cc", "#997700",
    ]
    /// Those that dark letters stand out on.
    private static let lightColours: Set = [1, 3, 5, 7]
    private static let several = "#c5ccd3"

    /// `longest` is the load of the fullest device in bytes.
    public init(title: String, subtitle: String, threshold: UInt64, longest: UInt64) {
        self.title = title
        self.subtitle = subtitle
        self.threshold = threshold
        self.longest = max(longest, threshold, 1)
    }

    /// Adds a device below the others. `note` says what it carries.
    public mutating func addDevice(
        _ name: String, note: String, bytes: UInt64, capacity: UInt64?, isAvailable: Bool
    ) {
        bars.append(
            Bar(
                name: name, note: note, isAvailable: isAvailable, bytes: bytes,
                capacity: capacity))
    }

    /// Adds a piece at the end of a device's bar; pieces of one file have one number.
    public mutating func addPiece(
        to device: Int, bytes: UInt64, file: Int, label: @autoclosure () -> String,
        hint: @autoclosure () -> String
    ) {
        if scaled(bytes) >= 3 {
            bars[device].runs.append(
                Run(bytes: bytes, colour: file, label: label(), hint: hint(), count: 1))
        } else if let last = bars[device].runs.indices.last,
            bars[device].runs[last].colour == nil
        {
            bars[device].runs[last].bytes += bytes
            bars[device].runs[last].count += 1
        } else {
            bars[device].runs.append(Run(bytes: bytes, label: "", hint: "", count: 1))
        }
    }

    private func scaled(_ bytes: UInt64) -> Double {
        Double(bytes) / Double(longest) * Self.width
    }

    public var svg: String {
        let height = Int(Self.top + Double(bars.count) * Self.step) + 24
        var picture = SVGDocument(
            width: Int(2 * Self.left + Self.width), height: height, title: title)
        picture.text(Self.left, 30, title, size: 17, isBold: true)
        picture.text(Self.left, 50, subtitle, fill: "#555555")
        for (index, bar) in bars.enumerated() {
            draw(bar, at: Self.top + Double(index) * Self.step, in: &picture)
        }
        if threshold > 0 {
            let x = Self.left + scaled(threshold)
            picture.text(
                x, Double(height) - 8, "threshold \(ByteSize(bytes: threshold))", size: 11,
                anchor: x > Self.width / 2 ? .end : .start)
        }
        return picture.text
    }

    private func draw(_ bar: Bar, at y: Double, in picture: inout SVGDocument) {
        picture.text(Self.left, y + 12, Self.cut(bar.name, to: 70), isBold: true)
        picture.text(
            Self.left + Self.width, y + 12, bar.isAvailable ? bar.note : "not available",
            anchor: .end, fill: bar.isAvailable ? "#222222" : "#aa3311")
        let room = min(Self.width, bar.capacity.map { scaled($0) } ?? Self.width)
        picture.rect(
            Self.left, y + 18, max(room, 1), Self.height,
            fill: bar.isAvailable ? "#eef1f4" : "#f6e9e6")
        var x = Self.left
        for run in bar.runs {
            let width = scaled(run.bytes)
            let colour = run.colour.map { Self.colours[$0 % Self.colours.count] } ?? Self.several
            // A light line parts neighbours.
            picture.rect(
                x, y + 18, max(width - 1, 0.5), Self.height, fill: colour,
                hint: run.colour == nil
                    ? "\(run.count) items, \(ByteSize(bytes: run.bytes))" : run.hint)
            let letters = Int(width / 7) - 1
            if let number = run.colour, letters >= min(run.label.count, 8) {
                let isLight = Self.lightColours.contains(number % Self.colours.count)
                picture.text(
                    x + width / 2, y + 35, Self.cut(run.label, to: letters), size: 11,
                    anchor: .middle, fill: isLight ? "#222222" : "#ffffff")
            }
            x += width
        }
        if threshold > 0 {
            let x = Self.left + scaled(threshold)
            picture.line(x, y + 15, x, y + 21 + Self.height, stroke: "#222222", width: 1.5)
        }
    }

    /// The end of a long name says more than its start.
    private static func cut(_ text: String, to count: Int) -> String {
        text.count <= count ? text : "…" + text.suffix(max(1, count - 1))
    }
}
