"""The web pages a person looks at: today the demo's. May import the shared modules only."""
