// A strict reader of JSON, value by value, from a file that may be larger than memory. Just what a
// plan needs: objects, arrays, strings, whole numbers, true, false and null.

struct JSONScanner<Failure: Error> {
    /// Fills the buffer; 0 at the end.
    typealias Refill = (UnsafeMutableRawBufferPointer) throws(Failure) -> Int

    enum Fault: Error {
        case source(Failure)
        /// The text is not what it should be, at this byte.
        case syntax(at: UInt64, expected: String)
    }

    private let refill: Refill
    private var buffer = [UInt8](repeating: 0, count: 1 << 16)
    private var next = 0
    private var end = 0
    private var start: UInt64 = 0

    init(_ refill: @escaping Refill) { self.refill = refill }

    func fault(_ expected: String) -> Fault {
        .syntax(at: start + UInt64(next), expected: expected)
    }

    // MARK: - bytes

    private mutating func peek() throws(Fault) -> UInt8? {
        if next < end { return buffer[next] }
        start += UInt64(end)
        next = 0
        let refill = refill
        let result = buffer.withUnsafeMutableBytes { target -> Result<Int, Failure> in
            do throws(Failure) {
                return .success(try refill(target))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let count): end = count
        case .failure(let error):
            end = 0
            throw .source(error)
        }
        return end > 0 ? buffer[0] : nil
    }

    /// The next byte that is no white space, which stays.
    private mutating func look() throws(Fault) -> UInt8? {
        while let byte = try peek() {
            if byte != 0x20 && byte != 0x0A && byte != 0x0D && byte != 0x09 { return byte }
            next += 1
        }
        return nil
    }

    private mutating func expect(_ byte: UInt8) throws(Fault) {
        guard try look() == byte else {
            throw fault("'\(Character(UnicodeScalar(byte)))'")
        }
        next += 1
    }

    /// Nothing but white space may follow.
    mutating func expectEnd() throws(Fault) {
        if try look() != nil { throw fault("the end") }
    }

    // MARK: - values

    /// Reads an object; `member` reads the value of the key that it is given.
    mutating func object(
        _ member: (inout JSONScanner, String) throws(Fault) -> Void
    ) throws(Fault) {
        try expect(UInt8(ascii: "{"))
        if try look() == UInt8(ascii: "}") {
            next += 1
            return
        }
        while true {
            let key = try string()
            try expect(UInt8(ascii: ":"))
            try member(&self, key)
            guard try look() == UInt8(ascii: ",") else { break }
            next += 1
        }
        try expect(UInt8(ascii: "}"))
    }

    /// Reads an array; `element` reads each of its values.
    mutating func array(_ element: (inout JSONScanner) throws(Fault) -> Void) throws(Fault) {
        try expect(UInt8(ascii: "["))
        if try look() == UInt8(ascii: "]") {
            next += 1
            return
        }
        while true {
            try element(&self)
            guard try look() == UInt8(ascii: ",") else { break }
            next += 1
        }
        try expect(UInt8(ascii: "]"))
    }

    mutating func number() throws(Fault) -> UInt64 {
        _ = try look()
        var value: UInt64?
        while let byte = try peek(), (0x30...0x39).contains(byte) {
            if value == 0 { throw fault("no digit after 0") }
            let (high, overflow) = (value ?? 0).multipliedReportingOverflow(by: 10)
            let (sum, carry) = high.addingReportingOverflow(UInt64(byte - 0x30))
            if overflow || carry { throw fault("a number below 2^64") }
            value = sum
            next += 1
        }
        guard let value else { throw fault("a whole number") }
        return value
    }

    /// A number, or nil for null.
    mutating func optionalNumber() throws(Fault) -> UInt64? {
        if try look() == UInt8(ascii: "n") {
            try word("null")
            return nil
        }
        return try number()
    }

    mutating func boolean() throws(Fault) -> Bool {
        if try look() == UInt8(ascii: "t") {
            try word("true")
            return true
        }
        try word("false")
        return false
    }

    private mutating func word(_ text: String) throws(Fault) {
        for byte in text.utf8 {
            guard try peek() == byte else { throw fault(text) }
            next += 1
        }
    }

    mutating func string() throws(Fault) -> String {
        let bytes = try stringBytes()
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw fault("valid UTF-8")
        }
        return text
    }

    /// A string as bytes of UTF-8, escapes resolved.
    mutating func stringBytes() throws(Fault) -> [UInt8] {
        try expect(UInt8(ascii: "\""))
        var result: [UInt8] = []
        while let byte = try peek() {
            next += 1
            if byte == UInt8(ascii: "\"") { return result }
            if byte < 0x20 { throw fault("an escape") }
            if byte == UInt8(ascii: "\\") {
                try escape(&result)
            } else {
                result.append(byte)
            }
        }
        throw fault("the end of a string")
    }

    private mutating func escape(_ result: inout [UInt8]) throws(Fault) {
        guard let byte = try peek() else { throw fault("an escape") }
        next += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): result.append(byte)
        case UInt8(ascii: "b"): result.append(8)
        case UInt8(ascii: "f"): result.append(12)
        case UInt8(ascii: "n"): result.append(10)
        case UInt8(ascii: "r"): result.append(13)
        case UInt8(ascii: "t"): result.append(9)
        case UInt8(ascii: "u"):
            var value = try codeUnit()
            if (0xD800...0xDBFF).contains(value) {
                try word("\\u")
                let low = try codeUnit()
                guard (0xDC00...0xDFFF).contains(low) else { throw fault("a low surrogate") }
                value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = UnicodeScalar(value) else { throw fault("a character") }
            result += Array(String(Character(scalar)).utf8)
        default: throw fault("an escape")
        }
    }

    private mutating func codeUnit() throws(Fault) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = try peek(), byte < 0x80,
                let digit = Character(UnicodeScalar(byte)).hexDigitValue
            else { throw fault("four hexadecimal digits") }
            value = value << 4 | UInt32(digit)
            next += 1
        }
        return value
    }
}
