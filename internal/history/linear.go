package history

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// patience is for a search whose length nobody knows. What it cannot tell in time counts as broken:
// it is no proof.
const patience = 20 * time.Second

// linear: locks, and the registers that they guard, behave as if everything happened at one moment,
// between call and return. A register can do so where its lock does not, if it refuses those whose
// fencing token is not the highest.
func linear(events []Event, tenures []Tenure) (found []Violation) {
	for resource, of := range byResource(tenures) {
		if result := porcupine.CheckOperationsTimeout(lockModel, lockOperations(of),
			patience); result != porcupine.Ok {
			found = append(found, Violation{
				"linearizability", of[0].First, fmt.Sprintf("of %d tenures of %s there is no "+
					"order that a lock allows (%s)", len(of), resource, result),
			})
		}
	}
	for resource, of := range registers(events) {
		if result := porcupine.CheckOperationsTimeout(registerModel, registerOperations(of),
			patience); result != porcupine.Ok {
			found = append(found, Violation{
				"register", of[0].At, fmt.Sprintf("of %d accesses to the register of %s there is "+
					"no order that a register allows (%s)", len(of), resource, result),
			})
		}
	}
	return found
}

// take and leave are the operations of a lock.
type (
	take  struct{ token string }
	leave struct{ token string }
)

// lockModel is a lock: its state is the token of the holder, "" while it is free.
var lockModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		switch op := input.(type) {
		case take:
			return state == "", op.token
		default:
			return state == op.(leave).token, ""
		}
	},
}

// lockOperations are a resource's. The end of a tenure lies somewhere between the last look that
// found it alive and the first that did not.
func lockOperations(tenures []Tenure) []porcupine.Operation {
	var ops []porcupine.Operation
	for i, t := range tenures {
		ops = append(ops,
			porcupine.Operation{ClientId: i, Input: take{t.Token}, Call: int64(t.Called),
				Return: int64(t.First)},
			porcupine.Operation{ClientId: i, Input: leave{t.Token}, Call: int64(t.Last),
				Return: int64(max(t.Over, t.Last))},
		)
	}
	return ops
}

// registerModel is a register, which holds 0 at first. Swaps and reads tell what they found.
var registerModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		e := input.(Event)
		if e.Kind == Swapped {
			return state == e.Old, e.New
		}
		return state == e.Old, state
	},
}

// registers returns the accesses to each resource's register.
func registers(events []Event) map[string][]Event {
	of := make(map[string][]Event)
	for _, e := range events {
		if e.Kind == Swapped || e.Kind == Read {
			of[e.Resources[0]] = append(of[e.Resources[0]], e)
		}
	}
	return of
}

func registerOperations(events []Event) []porcupine.Operation {
	var ops []porcupine.Operation
	for i, e := range events {
		ops = append(ops, porcupine.Operation{ClientId: i, Input: e, Call: int64(e.Began),
			Return: int64(e.At)})
	}
	return ops
}
