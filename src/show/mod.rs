//! Read-only views for people and scrapers.
