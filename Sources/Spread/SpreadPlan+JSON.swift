// A plan as JSON, written piece by piece so that a million items cost no memory:
//
//   {"threshold": N, "mode": "…", "order": "…",
//    "devices": [{"name": "…", "bytes": N, "items": N, "capacity": N or null}],
//    "items": [{"source": "…", "path": "…", "offset": N, "size": N, "device": "…", "rule": "…"}]}
//
// One device and one item a line, keys always in this order, so that equal plans are equal texts. A
// device that is not available has `"available": false` besides. Paths are as PathText writes them.
// The form for files has before all that what is needed to carry the plan out later:
//
//   "format": "logdisk spread plan", "version": 1, "sources": ["…"], "copies": N,
//   "item_cost": N, "keep_together": [{"source": "…", "path": "…"}]
//
// SpreadPlanReader reads it.

extension SpreadPlan {
    /// Which keys are written.
    public enum JSONForm: Sendable {
        /// For programs: threshold to items.
        case result
        /// For `spread run --plan`, with the options that were asked for.
        case file(SpreadOptions)
    }

    static let formatName = "logdisk spread plan"
    static let formatVersion: UInt64 = 1

    /// Hands the text to `write` in pieces of some 64 KiB.
    public func writeJSON<Failure: Error>(
        _ sources: SourceList, _ form: JSONForm, to write: ([UInt8]) throws(Failure) -> Void
    ) throws(Failure) {
        let text = JSONText()
        text.raw("{")
        if case .file(let options) = form { writeHead(sources, options, text) }
        text.raw("\"threshold\": ").number(threshold)
        text.raw(", \"mode\": ").string(mode.rawValue)
        text.raw(", \"order\": ").string(order.rawValue)
        text.raw(",\n\"devices\": [")
        for (index, device) in devices.enumerated() {
            text.raw(index == 0 ? "\n" : ",\n").raw("{\"name\": ").string(device.name)
            text.raw(", \"bytes\": ").number(device.bytes)
            text.raw(", \"items\": ").number(UInt64(device.items)).raw(", \"capacity\": ")
            if let capacity = device.capacity { text.number(capacity) } else { text.raw("null") }
            text.raw(device.isAvailable ? "}" : ", \"available\": false}")
        }
        text.raw("],\n\"items\": [")
        let quoted = (sources.names + devices.map(\.name)).map { JSONText.quoted($0) }
        let words = SpreadRule.allCases.map { JSONText.quoted($0.word) }
        for index in items.indices {
            let item = items[index]
            text.raw(index == 0 ? "\n" : ",\n").raw("{\"source\": ")
            text.bytes += quoted[sources.source(item.entry)]
            text.raw(", \"path\": ").path(sources.path(item.entry))
            text.raw(", \"offset\": ").number(item.offset)
            text.raw(", \"size\": ").number(item.size).raw(", \"device\": ")
            text.bytes += quoted[sources.names.count + item.device]
            text.raw(", \"rule\": ")
            text.bytes += words[Int(item.rule.rawValue)]
            text.raw("}")
            if text.bytes.count > 1 << 16 {
                try write(text.bytes)
                text.bytes.removeAll(keepingCapacity: true)
            }
        }
        text.raw("]}\n")
        try write(text.bytes)
    }

    private func writeHead(
        _ sources: SourceList, _ options: SpreadOptions, _ text: JSONText
    ) {
        text.raw("\"format\": ").string(Self.formatName)
        text.raw(", \"version\": ").number(Self.formatVersion).raw(",\n\"sources\": [")
        for (index, name) in sources.names.enumerated() {
            text.raw(index == 0 ? "" : ", ").string(name)
        }
        text.raw("], \"copies\": ").number(UInt64(copies))
        text.raw(", \"item_cost\": ").number(options.itemCost).raw(", \"keep_together\": [")
        for (index, folder) in options.keepTogether.enumerated() {
            text.raw(index == 0 ? "" : ", ").raw("{\"source\": ")
            text.string(sources.names[folder.source]).raw(", \"path\": ")
            text.path(folder.path[...]).raw("}")
        }
        text.raw("],\n")
    }
}

/// JSON in the making. A class, so that calls can be chained; one thread.
final class JSONText {
    var bytes: [UInt8] = []

    @discardableResult
    func raw(_ text: StaticString) -> JSONText {
        text.withUTF8Buffer { bytes.append(contentsOf: $0) }
        return self
    }

    @discardableResult
    func number(_ value: UInt64) -> JSONText {
        var value = value
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
            var start = digits.count
            repeat {
                start -= 1
                digits[start] = UInt8(ascii: "0") + UInt8(value % 10)
                value /= 10
            } while value > 0
            bytes.append(contentsOf: digits[start...])
        }
        return self
    }

    @discardableResult
    func string(_ text: String) -> JSONText {
        var text = text
        text.withUTF8 { quote($0) }
        return self
    }

    @discardableResult
    func path(_ path: ArraySlice<UInt8>) -> JSONText {
        let isPlain = path.allSatisfy {
            $0 >= 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
        }
        guard isPlain else {
            quote(PathText.utf8(path))
            return self
        }
        bytes.append(UInt8(ascii: "\""))
        bytes.append(contentsOf: path)
        bytes.append(UInt8(ascii: "\""))
        return self
    }

    private func quote(_ text: some Sequence<UInt8>) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0..<0x20, 0x7F:
                let digits = Array("0123456789abcdef".utf8)
                raw("\\u00")
                bytes.append(digits[Int(byte >> 4)])
                bytes.append(digits[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    static func quoted(_ text: String) -> [UInt8] { JSONText().string(text).bytes }
}
