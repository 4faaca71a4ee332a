//go:build race

package fencemodel_test

const raceDetector = true
