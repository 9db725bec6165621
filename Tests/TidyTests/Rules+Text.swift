// How rules look at lines.

extension Rules {
    /// A violation for every line of code for which `check` gives a message.
    static func violations(
        _ file: SourceFile, _ check: (Substring) -> String?
    ) -> [Violation] {
        file.lines.enumerated().compactMap { index, line in
            let code = SourceFile.code(line)
            guard !code.isEmpty, let message = check(code) else { return nil }
            return Violation(path: file.path, line: index + 1, message: message)
        }
    }

    private static func isWordCharacter(_ character: Character?) -> Bool {
        guard let character else { return false }
        return character.isLetter || character.isNumber || character == "_"
    }

    static func containsWord(_ word: String, in line: some StringProtocol) -> Bool {
        var rest = line[...]
        while let range = rest.firstRange(of: word) {
            let before =
                range.lowerBound == line.startIndex
                ? nil : line[line.index(before: range.lowerBound)]
            let after = range.upperBound == line.endIndex ? nil : line[range.upperBound]
            if !isWordCharacter(before) && !isWordCharacter(after) { return true }
            rest = rest[range.upperBound...]
        }
        return false
    }

    /// Whether the free function is called in the line; a method or declaration of that name
    /// does not count, `Glibc.name(` does.
    static func isCalled(_ name: String, in line: Substring) -> Bool {
        var rest = line
        while let range = rest.firstRange(of: name + "(") {
            let front = line[..<range.lowerBound]
            let isFree =
                !isWordCharacter(front.last) && front.last != "." && !front.hasSuffix("func ")
            if isFree || front.hasSuffix("Glibc.") { return true }
            rest = rest[range.upperBound...]
        }
        return false
    }
}
