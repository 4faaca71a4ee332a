// Package integrations has the code of docs/integrations.md, and tests it against the libraries
// that it is for. It is meant to be copied, not imported: each adapter is a few lines, which you
// will want to change. A test keeps the page and the files the same.
package integrations
