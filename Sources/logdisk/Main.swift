import ArgumentParser
import Hummingbird
import AsyncHTTPClient
@main struct L: ParsableCommand { func run() throws { print("hi") } }
