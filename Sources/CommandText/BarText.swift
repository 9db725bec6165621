// Bars for terminals, in eighths of a column.

/// A bar as text.
public enum BarText {
    private static let parts: [Character] = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
    private static let levels: [Character] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]

    /// A bar of `value` where `most` fills `width` columns; something is never nothing.
    public static func bar(_ value: UInt64, of most: UInt64, width: Int) -> String {
        guard value > 0, most > 0 else { return "" }
        let eighths = max(1, Int(Double(value) / Double(most) * Double(width * 8)))
        let text = String(repeating: "█", count: eighths / 8)
        return eighths % 8 == 0 ? text : text + String(parts[eighths % 8])
    }

    /// One character a value; a space for none.
    public static func spark(_ values: [UInt64]) -> String {
        let most = values.max() ?? 0
        return String(
            values.map { value in
                if value == 0 { return " " }
                return levels[min(7, Int(Double(value) / Double(most) * 8))]
            })
    }
}
