// A small SVG writer for pictures that stand alone: no scripts, no fonts or files from elsewhere.
// Pure: text in, text out.

/// A picture in the making; coordinates in pixels, y downwards.
public struct SVGDocument {
    public enum Anchor: String, Sendable { case start, middle, end }

    public let width: Int
    public let height: Int
    private let title: String
    private var body: [String] = []

    public init(width: Int, height: Int, title: String) {
        self.width = width
        self.height = height
        self.title = title
    }

    /// A filled rectangle; `hint` shows when one points at it.
    public mutating func rect(
        _ x: Double, _ y: Double, _ width: Double, _ height: Double, fill: String,
        hint: String? = nil
    ) {
        let start =
            "<rect x=\"\(Self.number(x))\" y=\"\(Self.number(y))\" "
            + "width=\"\(Self.number(width))\" height=\"\(Self.number(height))\" fill=\"\(fill)\""
        body.append(
            hint.map { "\(start)><title>\(Self.escaped($0))</title></rect>" } ?? start + "/>")
    }

    public mutating func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, stroke: String, width: Double = 1
    ) {
        body.append(
            "<line x1=\"\(Self.number(x1))\" y1=\"\(Self.number(y1))\" x2=\"\(Self.number(x2))\" "
                + "y2=\"\(Self.number(y2))\" stroke=\"\(stroke)\" "
                + "stroke-width=\"\(Self.number(width))\"/>")
    }

    /// One line of text; y is its base line.
    public mutating func text(
        _ x: Double, _ y: Double, _ text: String, size: Int = 12, anchor: Anchor = .start,
        fill: String = "#222222", isBold: Bool = false
    ) {
        let weight = isBold ? " font-weight=\"bold\"" : ""
        body.append(
            "<text x=\"\(Self.number(x))\" y=\"\(Self.number(y))\" font-size=\"\(size)\" "
                + "text-anchor=\"\(anchor.rawValue)\" fill=\"\(fill)\"\(weight)>"
                + "\(Self.escaped(text))</text>")
    }

    /// The whole document, with a white ground.
    public var text: String {
        """
        <?xml version="1.0" encoding="UTF-8"?>
        <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" \
        viewBox="0 0 \(width) \(height)" font-family="sans-serif">
        <title>\(Self.escaped(title))</title>
        <rect x="0" y="0" width="\(width)" height="\(height)" fill="#ffffff"/>
        \(body.joined(separator: "\n"))
        </svg>

        """
    }

    /// At most two decimals, no exponent.
    static func number(_ value: Double) -> String {
        guard value.isFinite else { return "0" }
        let hundredths = Int64((min(max(value, -1e9), 1e9) * 100).rounded())
        let sign = hundredths < 0 ? "-" : ""
        let (whole, rest) = hundredths.magnitude.quotientAndRemainder(dividingBy: 100)
        if rest == 0 { return "\(sign)\(whole)" }
        return "\(sign)\(whole).\(rest < 10 ? "0" : "")\(rest)"
    }

    /// Text as XML may hold it; what XML has no way to write becomes U+FFFD.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\t", "\n", "\r": result += " "
            case _ where scalar.value < 32 || scalar.value == 0xFFFE || scalar.value == 0xFFFF:
                result += "\u{FFFD}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
