package tableside
