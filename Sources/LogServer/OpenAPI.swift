// placeholder
enum OpenAPI { static let text = "" }
