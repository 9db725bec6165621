// The answers of S3 are small XML documents: this reads them into elements with their text. It
// knows elements, text, entities, comments and CDATA, and skips declarations and attributes; no
// DTD, no namespaces. Total: whatever the bytes, it ends with a tree or nil. Pure.

/// An element: its name without a namespace's prefix, what is in it, and its own text.
package struct XMLElement: Hashable, Sendable {
    package var name: String
    package var text = ""
    package var children: [XMLElement] = []

    /// The first child of that name.
    package func child(_ name: String) -> XMLElement? { children.first { $0.name == name } }

    /// The text of the first child of that name.
    package func text(_ name: String) -> String? { child(name)?.text }

    package func all(_ name: String) -> [XMLElement] { children.filter { $0.name == name } }

    private static let depthMax = 32

    /// The root; nil where the bytes are no XML.
    package static func read(_ bytes: [UInt8]) -> XMLElement? {
        var reader = XMLBytes(bytes)
        var open: [XMLElement] = []
        while let token = reader.next() {
            switch token {
            case .text(let text):
                if !open.isEmpty { open[open.count - 1].text += text }
            case .begin(let name, let isClosed):
                guard open.count < depthMax else { return nil }
                open.append(XMLElement(name: name))
                if isClosed, let root = close(&open) { return root }
            case .end(let name):
                guard open.last?.name == name else { return nil }
                if let root = close(&open) { return root }
            case .broken: return nil
            }
        }
        return nil
    }

    /// Puts the innermost element into the one around it; gives the root when that is closed.
    private static func close(_ open: inout [XMLElement]) -> XMLElement? {
        guard var done = open.popLast() else { return nil }
        if !done.children.isEmpty { done.text = "" }
        guard !open.isEmpty else { return done }
        open[open.count - 1].children.append(done)
        return nil
    }
}

private struct XMLBytes {
    enum Token {
        case text(String)
        case begin(String, isClosed: Bool)
        case end(String)
        case broken
    }
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// nil at the end.
    mutating func next() -> Token? {
        while starts("<!--") || starts("<?") {
            let isComment = starts("<!--")
            guard skip(to: isComment ? "-->" : "?>", from: isComment ? 4 : 2) else {
                return .broken
            }
        }
        guard position < bytes.count else { return nil }
        guard bytes[position] == UInt8(ascii: "<") else {
            let start = position
            while position < bytes.count, bytes[position] != UInt8(ascii: "<") { position += 1 }
            return Self.plain(bytes[start..<position]).map(Token.text) ?? .broken
        }
        if starts("<![CDATA[") {
            let start = position + 9
            guard skip(to: "]]>", from: 9) else { return .broken }
            return .text(String(decoding: bytes[start..<position - 3], as: UTF8.self))
        }
        if starts("<!") { return .broken }
        return tag()
    }

    private mutating func tag() -> Token {
        var inner = position + 1
        var quote: UInt8?
        while inner < bytes.count {
            let byte = bytes[inner]
            if let open = quote {
                if byte == open { quote = nil }
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                quote = byte
            } else if byte == UInt8(ascii: ">") {
                break
            }
            inner += 1
        }
        guard inner < bytes.count else { return .broken }
        var content = bytes[position + 1..<inner]
        position = inner + 1
        let isEnd = content.first == UInt8(ascii: "/")
        if isEnd { content = content.dropFirst() }
        let isClosed = content.last == UInt8(ascii: "/")
        let name = content.prefix { $0 > 0x20 && $0 != UInt8(ascii: "/") }
        let local = name.split(separator: UInt8(ascii: ":")).last ?? []
        guard !local.isEmpty else { return .broken }
        let text = String(decoding: local, as: UTF8.self)
        return isEnd ? .end(text) : .begin(text, isClosed: isClosed)
    }

    private func starts(_ text: String) -> Bool {
        bytes[position...].starts(with: text.utf8)
    }

    private mutating func skip(to text: String, from: Int) -> Bool {
        let wanted = Array(text.utf8)
        var place = position + from
        while place + wanted.count <= bytes.count {
            if bytes[place..<place + wanted.count].elementsEqual(wanted) {
                position = place + wanted.count
                return true
            }
            place += 1
        }
        return false
    }

    private static let entities = ["amp": "&", "lt": "<", "gt": ">", "quot": "\"", "apos": "'"]

    /// Text with its entities replaced; nil where one is not known.
    private static func plain(_ bytes: ArraySlice<UInt8>) -> String? {
        guard bytes.contains(UInt8(ascii: "&")) else {
            return String(decoding: bytes, as: UTF8.self)
        }
        var out = ""
        var rest = bytes
        while let mark = rest.firstIndex(of: UInt8(ascii: "&")) {
            out += String(decoding: rest[..<mark], as: UTF8.self)
            guard let end = rest[mark...].firstIndex(of: UInt8(ascii: ";")), end - mark < 12 else {
                return nil
            }
            let name = String(decoding: rest[(mark + 1)..<end], as: UTF8.self)
            if let known = entities[name] {
                out += known
            } else if name.hasPrefix("#") {
                let isHex = name.hasPrefix("#x") || name.hasPrefix("#X")
                let code = UInt32(name.dropFirst(isHex ? 2 : 1), radix: isHex ? 16 : 10)
                guard let code, let scalar = Unicode.Scalar(code) else { return nil }
                out.unicodeScalars.append(scalar)
            } else {
                return nil
            }
            rest = rest[(end + 1)...]
        }
        return out + String(decoding: rest, as: UTF8.self)
    }
}
