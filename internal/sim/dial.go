package sim

import (
	"reflect"

	"github.com/redis/go-redis/v9"
)

// oneDial makes a failed dial an error at once, where go-redis would try again (v9.12 and later): its wait between two tries is cut
// short by nothing, not even by Close.
func oneDial(o *redis.Options) {
	if retries := reflect.ValueOf(o).Elem().FieldByName("DialerRetries"); retries.IsValid() {
		retries.SetInt(1)
	}
}
