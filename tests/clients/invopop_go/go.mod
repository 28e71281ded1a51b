module stageline.test/invopop_go

go 1.24
