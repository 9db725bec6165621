// Signature.
import Testing
