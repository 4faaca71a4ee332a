package sim

import (
	"reflect"

	"github.com/redis/go-redis/v9"
)

// tame turns off what newer versions of go-redis do and virtual time cannot bear. They are fields
// that the oldest version which is supported does not have.
//
//   - A failed dial is an error at once: the wait before another try is cut short by nothing, not
//     even by Close.
//   - Connections do not ask for maintenance notifications: the answer is awaited under a lock for
//     which others wait, and in a bubble time stands still while somebody waits for a lock.
func tame(o *redis.Options) {
	options := reflect.ValueOf(o).Elem()
	if retries := options.FieldByName("DialerRetries"); retries.IsValid() {
		retries.SetInt(1)
	}
	if config := options.FieldByName("MaintNotificationsConfig"); config.IsValid() {
		config.Set(reflect.New(config.Type().Elem()))
		config.Elem().FieldByName("Mode").SetString("disabled")
	}
}
